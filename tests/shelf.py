"""A service whose methods have rules of google.api.http, made without the protobuf compiler; it answers what it was asked."""

from __future__ import annotations

import grpc
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
RULES = {
    "Get": {"get": "/v1/{shelf=shelves/*}"},
    "Read": {"get": "/v1/shelves/{shelf}/books/{book}"},
    "Create": {"post": "/v1/shelves/{shelf}/books", "body": "*"},
    "Update": {"put": "/v1/shelves/{shelf}/books/{book}", "body": "inner"},
    "Remove": {"delete": "/v1/all/{book=**}"},
    "Close": {"post": "/v1/shelves/{shelf}:close", "body": "*"},
    "Title": {"get": "/v1/title/{title}", "response_body": "title"},
}


def described():
    """The file of the service, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="shelf.proto", package="shelf.v1", syntax="proto3")
    file.dependency.append("google/api/annotations.proto")
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="name", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    book = file.message_type.add(name="Book")
    kinds = {"shelf": FIELD.TYPE_STRING, "book": FIELD.TYPE_STRING, "title": FIELD.TYPE_STRING, "page": FIELD.TYPE_INT32,
             "open": FIELD.TYPE_BOOL}  # fmt: skip
    for number, (name, kind) in enumerate(kinds.items()):
        book.field.add(name=name, number=number + 1, type=kind, label=FIELD.LABEL_OPTIONAL)
    book.field.add(name="tags", number=8, type=FIELD.TYPE_STRING, label=FIELD.LABEL_REPEATED)
    book.field.add(name="inner", number=9, type=FIELD.TYPE_MESSAGE, type_name=".shelf.v1.Inner", label=FIELD.LABEL_OPTIONAL)
    service = file.service.add(name="Shelves")
    for name, rule in RULES.items():
        method = service.method.add(name=name, input_type=".shelf.v1.Book", output_type=".shelf.v1.Book")
        for key, value in rule.items():
            setattr(method.options.Extensions[annotations_pb2.http], key, value)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName("shelf.v1.Book")


Book = message_factory.GetMessageClass(described())


class Shelf:
    """Says what it heard."""

    async def answer(self, request, context):
        return request


def shelf_handlers(shelf):
    """Its method handlers, as generated code would make them."""
    return {
        name: grpc.unary_unary_rpc_method_handler(shelf.answer, Book.FromString, Book.SerializeToString) for name in RULES
    }
