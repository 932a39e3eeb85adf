"""The tables and functions of the PostgreSQL engine, and their versions.

They live in one schema (`fairlead` unless the URL says `?schema=`). What must be one piece is one function in the database,
so that it costs one round trip and one commit: `fl_append` does the appends of many callers, `fl_put_if` many keys,
`fl_claim` a claim with what a topic feeds it. All rows are locked in the order of their names, so that two nodes' groups
never wait for each other in a circle.

- A topic's `last` is a counter in its row, not a sequence: a sequence's later value can be visible before an earlier one is
  committed, and a reader would skip it. The row is locked until the commit, so seqs become visible in their order.
- An item's `state` is 0 (ready), 1 (delayed: ready at `at`), 2 (leased: ready at `at` unless extended), 3 (dead).
- `epochs` begins at the clock's milliseconds and grows by one with each topic, so that no two topics have the same.
- `journal` keeps the answer of the last call of each lane, with its number. A node numbers the calls of a lane, one after the
  other: when its connection breaks it asks again with the same number, and what had been committed answers and does nothing. A
  call that is still under way is waited for (the lane's lock), and one that comes late, after a newer, is refused.
- `alive` is UNLOGGED, so it is empty after a crash of the server and on a standby that was promoted: see `postgres.checked`.

A new version adds to MIGRATIONS; a step is never changed once it was released. Functions are replaced at every open by a newer
version, since they keep nothing.
"""

from __future__ import annotations

VERSION = 2

MIGRATIONS = (
    """
CREATE TABLE clock (one boolean PRIMARY KEY DEFAULT true CHECK (one), shift float8 NOT NULL, seen float8 NOT NULL);
INSERT INTO clock (shift, seen) VALUES (0, 0);
CREATE TABLE facts (one boolean PRIMARY KEY DEFAULT true CHECK (one), floor bigint NOT NULL, system text NOT NULL,
  timeline text NOT NULL, weak boolean NOT NULL);
CREATE UNLOGGED TABLE alive (one boolean PRIMARY KEY DEFAULT true CHECK (one));
CREATE SEQUENCE numbers;
CREATE TABLE journal (caller text PRIMARY KEY, number bigint NOT NULL, answers text NOT NULL, at float8 NOT NULL);
CREATE TABLE topics (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, epoch bigint NOT NULL,
  first bigint NOT NULL DEFAULT 0, last bigint NOT NULL DEFAULT 0, closed boolean NOT NULL DEFAULT false,
  bytes bigint NOT NULL DEFAULT 0, created float8 NOT NULL, used float8 NOT NULL, gone float8, trim float8,
  config text NOT NULL, keep float8, max_events bigint, max_bytes bigint, compact boolean NOT NULL, ttl float8, expires float8
) WITH (fillfactor = 50);
CREATE INDEX topics_gone ON topics (gone) WHERE gone IS NOT NULL;
CREATE INDEX topics_trim ON topics (trim) WHERE trim IS NOT NULL;
CREATE TABLE events (
  topic bigint NOT NULL, seq bigint NOT NULL, at float8 NOT NULL, data bytea NOT NULL, type text NOT NULL, key text NOT NULL,
  headers text NOT NULL, compact text, PRIMARY KEY (topic, seq));
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX events_compact ON events (topic, compact) WHERE compact IS NOT NULL;
CREATE TABLE garbage (topic bigint PRIMARY KEY);
CREATE TABLE producers (topic bigint NOT NULL, id text NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, last bigint NOT NULL,
  at float8 NOT NULL, PRIMARY KEY (topic, id)) WITH (fillfactor = 50);
CREATE TABLE dedupes (topic bigint NOT NULL, key text NOT NULL, last bigint NOT NULL, at float8 NOT NULL, PRIMARY KEY (topic, key));
CREATE INDEX dedupes_at ON dedupes (at);
CREATE TABLE queues (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, topic text COLLATE "C",
  epoch bigint NOT NULL DEFAULT 0, cursor bigint NOT NULL DEFAULT 0);
CREATE INDEX queues_topic ON queues (topic) WHERE topic IS NOT NULL;
CREATE TABLE items (
  queue bigint NOT NULL, id text COLLATE "C" NOT NULL, state smallint NOT NULL, at float8 NOT NULL, priority integer NOT NULL,
  ord bigint NOT NULL, fence bigint NOT NULL DEFAULT 0, attempt integer NOT NULL DEFAULT 0, since float8 NOT NULL,
  epoch bigint, seq bigint, body bytea, reason text, copied boolean NOT NULL DEFAULT false, event_at float8, event_data bytea,
  event_type text, event_key text, event_headers text, PRIMARY KEY (queue, id)) WITH (fillfactor = 70);
CREATE INDEX items_next ON items (queue, priority DESC, ord) WHERE state = 0;
CREATE INDEX items_when ON items (queue, at) WHERE state IN (1, 2);
CREATE INDEX items_due ON items (at) WHERE state IN (1, 2);
CREATE INDEX items_dead ON items (queue, ord) WHERE state = 3;
CREATE TABLE entries (
  key text COLLATE "C" PRIMARY KEY, purpose text COLLATE "C" NOT NULL, version bigint NOT NULL, expires float8, due float8,
  value bytea NOT NULL) WITH (fillfactor = 70);
CREATE INDEX entries_due ON entries (purpose, due) WHERE due IS NOT NULL;
CREATE INDEX entries_expires ON entries (expires) WHERE expires IS NOT NULL;
""",
    """
CREATE SEQUENCE epochs;
SELECT setval('epochs', greatest((SELECT max(epoch) FROM topics), (SELECT max(floor) FROM facts),
  floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint));
""",
)

# Every topic gets a new epoch, its own, and those that follow are above.
ANEW = """
UPDATE topics SET epoch = base.at + rank FROM (SELECT id, row_number() OVER (ORDER BY id) AS rank FROM topics) ranked,
  (SELECT greatest((SELECT max(epoch) FROM topics), (SELECT last_value FROM epochs), (SELECT max(floor) FROM facts),
    floor(fl_now() * 1000)::bigint) AS at) base WHERE ranked.id = topics.id;
SELECT setval('epochs', greatest((SELECT max(epoch) FROM topics), (SELECT last_value FROM epochs), floor(fl_now() * 1000)::bigint));
"""

FUNCTIONS = r"""
DROP FUNCTION IF EXISTS fl_claim(text, int, float8);
DROP FUNCTION IF EXISTS fl_put_if(text[], text[], bytea[], bigint[], float8[], float8[]);

CREATE OR REPLACE FUNCTION fl_now() RETURNS float8 LANGUAGE sql STABLE AS $$
  SELECT greatest(extract(epoch FROM clock_timestamp())::float8 + shift, seen) FROM clock
$$;

-- The answer of this call, if it was done already.
CREATE OR REPLACE FUNCTION fl_before(caller_ text, number_ bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE j journal;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ' ' || caller_, 0));
  SELECT * INTO j FROM journal WHERE caller = caller_;
  IF j.number > number_ THEN RAISE EXCEPTION 'a call that comes after its successor'; END IF;
  RETURN CASE WHEN j.number = number_ THEN j.answers END;
END $$;

CREATE OR REPLACE FUNCTION fl_after(caller_ text, number_ bigint, answers_ text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal VALUES (caller_, number_, answers_, fl_now())
  ON CONFLICT (caller) DO UPDATE SET number = excluded.number, answers = excluded.answers, at = excluded.at
$$;

CREATE OR REPLACE FUNCTION fl_erase(t topics) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM topics WHERE id = t.id;
  INSERT INTO garbage (topic) VALUES (t.id) ON CONFLICT DO NOTHING;
  UPDATE facts SET floor = t.epoch WHERE floor < t.epoch;
END $$;

-- The topic, locked, if it is there and its time is not over.
CREATE OR REPLACE FUNCTION fl_topic(wanted text, now_ float8) RETURNS topics LANGUAGE plpgsql AS $$
DECLARE t topics;
BEGIN
  SELECT * INTO t FROM topics WHERE name = wanted FOR UPDATE;
  IF t.id IS NOT NULL AND t.gone <= now_ THEN
    PERFORM fl_erase(t);
    RETURN NULL;
  END IF;
  RETURN t;
END $$;

-- A new topic, or nothing when somebody else made it meanwhile.
CREATE OR REPLACE FUNCTION fl_make(wanted text, text_ text, now_ float8) RETURNS topics LANGUAGE plpgsql AS $$
DECLARE t topics; c jsonb := text_::jsonb; e bigint; ends float8;
BEGIN
  e := nextval('epochs');
  ends := least((c->>'expires')::float8, now_ + (c->>'ttl')::float8);
  INSERT INTO topics (name, epoch, created, used, gone, config, keep, max_events, max_bytes, compact, ttl, expires)
  VALUES (wanted, e, now_, now_, ends, text_, (c->>'keep')::float8, (c->>'max_events')::bigint, (c->>'max_bytes')::bigint,
    coalesce((c->>'compact')::boolean, false), (c->>'ttl')::float8, (c->>'expires')::float8)
  ON CONFLICT (name) DO NOTHING RETURNING * INTO t;
  RETURN t;
END $$;

CREATE OR REPLACE FUNCTION fl_save(t topics) RETURNS void LANGUAGE sql AS $$
  UPDATE topics SET last = t.last, closed = t.closed, bytes = t.bytes, used = t.used,
    gone = least(t.expires, t.used + t.ttl),
    trim = CASE WHEN t.compact THEN NULL
      WHEN t.last - t.first > t.max_events OR t.bytes > t.max_bytes THEN 0
      WHEN t.trim IS NULL AND t.last > last THEN t.used + t.keep ELSE t.trim END
  WHERE id = t.id
$$;

CREATE OR REPLACE FUNCTION fl_append(caller_ text, number_ bigint, names text[], pids text[], pepochs bigint[], pseqs bigint[],
  keys text[], closes boolean[], creates text[], aepochs bigint[], aseqs bigint[], counts int[], sizes bigint[],
  eowner int[], eplace int[], edata bytea[], etype text[], ekey text[], eheaders text[], window_ float8)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  now_ float8; t topics; open_ boolean := false; dirty boolean := false; answers text[] := '{}'; answer text;
  ids bigint[]; bases bigint[]; ats float8[]; compacts boolean[]; some_compact boolean := false;
  p producers; d dedupes; known boolean; ja text; made boolean; expected bigint;
BEGIN
  ja := fl_before(caller_, number_);
  IF ja IS NOT NULL THEN RETURN ja; END IF;
  now_ := fl_now();
  ids := array_fill(NULL::bigint, ARRAY[cardinality(names)]);
  bases := array_fill(0::bigint, ARRAY[cardinality(names)]);
  ats := array_fill(0::float8, ARRAY[cardinality(names)]);
  compacts := array_fill(false, ARRAY[cardinality(names)]);
  FOR i IN 1 .. cardinality(names) LOOP
    IF NOT open_ OR t.name IS DISTINCT FROM names[i] THEN
      IF dirty THEN PERFORM fl_save(t); dirty := false; END IF;
      t := fl_topic(names[i], now_);
      open_ := t.id IS NOT NULL;
    END IF;
    made := false;
    LOOP  -- again when somebody else makes the topic meanwhile
      answer := NULL; known := false; p := NULL;
      IF NOT open_ AND creates[i] IS NULL THEN
        answer := '["none"]'; EXIT;
      END IF;
      IF open_ THEN
        IF pids[i] IS NOT NULL THEN
          SELECT * INTO p FROM producers WHERE topic = t.id AND id = pids[i];
          known := FOUND;
          IF known AND p.epoch = pepochs[i] AND pseqs[i] <= p.seq THEN
            answer := json_build_array('ok', t.epoch, p.last, 0, true, t.closed); EXIT;
          END IF;
        END IF;
        IF keys[i] IS NOT NULL THEN
          SELECT * INTO d FROM dedupes WHERE topic = t.id AND key = keys[i] AND at >= now_ - window_;
          IF FOUND THEN
            answer := json_build_array('ok', t.epoch, d.last, 0, true, t.closed); EXIT;
          END IF;
        END IF;
        IF t.closed THEN
          IF closes[i] AND counts[i] = 0 THEN
            answer := json_build_array('ok', t.epoch, t.last, 0, true, true);
          ELSE
            answer := json_build_array('closed', t.epoch, t.last);
          END IF;
          EXIT;
        END IF;
      END IF;
      IF pids[i] IS NOT NULL THEN
        IF known AND pepochs[i] < p.epoch THEN
          answer := json_build_array('stale', p.epoch); EXIT;
        END IF;
        expected := CASE WHEN known AND pepochs[i] = p.epoch THEN p.seq + 1 ELSE 0 END;
        IF pseqs[i] <> expected THEN
          answer := json_build_array('hole', expected, CASE WHEN known THEN p.epoch END); EXIT;
        END IF;
      END IF;
      IF aepochs[i] IS NOT NULL AND (NOT open_ OR aepochs[i] <> t.epoch OR aseqs[i] <> t.last) THEN
        answer := json_build_array('moved', CASE WHEN open_ THEN t.epoch ELSE 0 END, CASE WHEN open_ THEN t.last ELSE 0 END);
        EXIT;
      END IF;
      EXIT WHEN open_;
      t := fl_make(names[i], creates[i], now_);
      made := t.id IS NOT NULL;
      open_ := true;
      EXIT WHEN made;
      t := fl_topic(names[i], now_);
      open_ := t.id IS NOT NULL;
    END LOOP;
    IF answer IS NULL THEN
      t.used := greatest(t.used, now_);
      ids[i] := t.id; bases[i] := t.last; ats[i] := t.used; compacts[i] := t.compact;
      some_compact := some_compact OR t.compact;
      t.last := t.last + counts[i];
      t.bytes := t.bytes + sizes[i];
      t.closed := closes[i];
      dirty := dirty OR made OR counts[i] > 0 OR closes[i];
      IF pids[i] IS NOT NULL THEN
        INSERT INTO producers VALUES (t.id, pids[i], pepochs[i], pseqs[i], t.last, now_)
        ON CONFLICT (topic, id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq, last = excluded.last, at = excluded.at;
      END IF;
      IF keys[i] IS NOT NULL THEN
        INSERT INTO dedupes VALUES (t.id, keys[i], t.last, now_)
        ON CONFLICT (topic, key) DO UPDATE SET last = excluded.last, at = excluded.at;
      END IF;
      answer := json_build_array('ok', t.epoch, t.last, counts[i], false, t.closed, bases[i], t.used);
    END IF;
    answers := answers || answer;
  END LOOP;
  IF dirty THEN PERFORM fl_save(t); END IF;
  INSERT INTO events (topic, seq, at, data, type, key, headers, compact)
  SELECT ids[e.a], bases[e.a] + e.o, ats[e.a], e.d, e.t, e.k, e.h, CASE WHEN compacts[e.a] THEN e.k END
  FROM unnest(eowner, eplace, edata, etype, ekey, eheaders) AS e(a, o, d, t, k, h) WHERE ids[e.a] IS NOT NULL;
  IF some_compact THEN
    WITH newest AS (
      SELECT ev.topic, ev.compact, max(ev.seq) AS seq FROM events ev
      WHERE ev.topic = ANY (ids) AND ev.compact = ANY (ekey) GROUP BY 1, 2),
    gone AS (
      DELETE FROM events ev USING newest n WHERE ev.topic = n.topic AND ev.compact = n.compact AND ev.seq < n.seq
      RETURNING ev.topic, octet_length(ev.data) AS size)
    UPDATE topics SET bytes = bytes - g.size FROM (SELECT topic, sum(size) AS size FROM gone GROUP BY 1) g WHERE id = g.topic;
  END IF;
  ja := '[' || array_to_string(answers, ',') || ']';
  PERFORM fl_after(caller_, number_, ja);
  RETURN ja;
END $$;

-- Trims one topic by what its configuration says, to the event, some thousands at once.
CREATE OR REPLACE FUNCTION fl_cut(which bigint, now_ float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE t topics; cut bigint; looked bigint; size bigint; next_ float8;
BEGIN
  SELECT * INTO t FROM topics WHERE id = which FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN; END IF;
  SELECT max(x.seq), max(x.seq) FILTER (WHERE x.seq <= t.last - t.max_events OR x.at < now_ - t.keep
      OR (t.bytes - (x.s - x.l) > t.max_bytes AND x.seq < t.last)),
    sum(x.l) FILTER (WHERE x.seq <= t.last - t.max_events OR x.at < now_ - t.keep
      OR (t.bytes - (x.s - x.l) > t.max_bytes AND x.seq < t.last))
  INTO looked, cut, size
  FROM (SELECT y.seq, y.at, y.l, sum(y.l) OVER (ORDER BY y.seq) AS s
        FROM (SELECT seq, at, octet_length(data) AS l FROM events WHERE topic = which ORDER BY seq LIMIT 4000) y) x;
  IF cut IS NOT NULL THEN
    DELETE FROM events WHERE topic = which AND seq <= cut;
  END IF;
  IF cut = looked AND cut < t.last THEN
    next_ := 0;
  ELSIF t.keep IS NOT NULL THEN
    SELECT at + t.keep INTO next_ FROM events WHERE topic = which ORDER BY seq LIMIT 1;
  END IF;
  UPDATE topics SET first = greatest(first, coalesce(cut, first)), bytes = bytes - coalesce(size, 0), trim = next_ WHERE id = which;
END $$;

-- Forgets what is over; true when there is more to do at once. One node at a time.
CREATE OR REPLACE FUNCTION fl_sweep(window_ float8) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE now_ float8 := fl_now(); t topics; g bigint; n int; more boolean := false; which bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('fairlead sweep ' || current_schema())) THEN RETURN false; END IF;
  UPDATE clock SET seen = now_ WHERE seen < now_;
  FOR t IN SELECT * FROM topics WHERE gone <= now_ ORDER BY name LIMIT 200 FOR UPDATE SKIP LOCKED LOOP
    PERFORM fl_erase(t);
  END LOOP;
  n := 0;
  FOR which IN SELECT id FROM topics WHERE trim < now_ ORDER BY trim LIMIT 100 LOOP
    PERFORM fl_cut(which, now_); n := n + 1;
  END LOOP;
  more := n = 100;
  SELECT topic INTO g FROM garbage LIMIT 1;
  IF FOUND THEN
    DELETE FROM events WHERE topic = g AND seq IN (SELECT seq FROM events WHERE topic = g ORDER BY seq LIMIT 5000);
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n < 5000 THEN
      DELETE FROM producers WHERE topic = g;
      DELETE FROM dedupes WHERE topic = g;
      DELETE FROM garbage WHERE topic = g;
    END IF;
    more := true;
  END IF;
  DELETE FROM dedupes WHERE (topic, key) IN (SELECT topic, key FROM dedupes WHERE at < now_ - window_ ORDER BY at LIMIT 1000);
  DELETE FROM entries WHERE key IN (SELECT key FROM entries WHERE expires <= now_ LIMIT 1000 FOR UPDATE SKIP LOCKED);
  IF random() < 0.01 THEN
    DELETE FROM producers WHERE at < now_ - window_;
    DELETE FROM journal WHERE at < now_ - 86400;
  END IF;
  RETURN more;
END $$;

CREATE OR REPLACE FUNCTION fl_put_if(caller_ text, number_ bigint, keys text[], purposes text[], vals bytea[], versions bigint[],
  ttls float8[], dues float8[])
RETURNS TABLE (i int, ok boolean, value bytea, version bigint, expires float8, due float8) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  e entries; now_ float8 := fl_now(); there boolean; new_ bigint; ends float8; ja jsonb; done jsonb := '[]'; any_ boolean := false;
BEGIN
  ja := fl_before(caller_, number_)::jsonb;
  FOR n IN 1 .. cardinality(keys) LOOP
    IF jsonb_typeof(ja->(n - 1)) = 'array' THEN
      RETURN QUERY SELECT n, true, vals[n], (ja->(n - 1)->>0)::bigint, (ja->(n - 1)->>1)::float8, dues[n];
      CONTINUE;
    ELSIF ja IS NOT NULL THEN
      SELECT * INTO e FROM entries WHERE key = keys[n] AND (expires IS NULL OR expires > now_);
      RETURN QUERY SELECT n, false, e.value, e.version, e.expires, e.due;
      CONTINUE;
    END IF;
    LOOP
      SELECT * INTO e FROM entries WHERE key = keys[n] FOR UPDATE;
      there := FOUND AND (e.expires IS NULL OR e.expires > now_);
      IF versions[n] IS NOT NULL AND versions[n] <> (CASE WHEN there THEN e.version ELSE 0 END) THEN
        IF there THEN
          RETURN QUERY SELECT n, false, e.value, e.version, e.expires, e.due;
        ELSE
          RETURN QUERY SELECT n, false, NULL::bytea, NULL::bigint, NULL::float8, NULL::float8;
        END IF;
        done := done || 'null'::jsonb;
        EXIT;
      END IF;
      ends := now_ + ttls[n];
      new_ := nextval('numbers');
      IF e.key IS NOT NULL THEN
        UPDATE entries SET value = vals[n], version = new_, expires = ends, due = dues[n] WHERE key = keys[n];
      ELSE
        INSERT INTO entries (key, purpose, version, expires, due, value)
        VALUES (keys[n], purposes[n], new_, ends, dues[n], vals[n]) ON CONFLICT DO NOTHING;
        CONTINUE WHEN NOT FOUND;
      END IF;
      RETURN QUERY SELECT n, true, vals[n], new_, ends, dues[n];
      done := done || jsonb_build_array(jsonb_build_array(new_, ends));
      any_ := true;
      EXIT;
    END LOOP;
  END LOOP;
  IF any_ THEN PERFORM fl_after(caller_, number_, done::text); END IF;
END $$;

-- The places, from 1, of the items that were not there.
CREATE OR REPLACE FUNCTION fl_put(caller_ text, number_ bigint, names text[], ids text[], bodies bytea[], dues float8[],
  priorities int[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE ja text := fl_before(caller_, number_); now_ float8 := fl_now(); places bigint[];
BEGIN
  IF ja IS NOT NULL THEN RETURN ja::bigint[]; END IF;
  INSERT INTO queues (name) SELECT DISTINCT n FROM unnest(names) n WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = n)
  ORDER BY n ON CONFLICT (name) DO NOTHING;
  WITH sorted AS (
    SELECT q.id AS queue, u.id, u.body, u.due, u.priority, u.place FROM unnest(names, ids, bodies, dues, priorities)
      WITH ORDINALITY AS u(name, id, body, due, priority, place) JOIN queues q ON q.name = u.name ORDER BY u.place),
  added AS (
    INSERT INTO items (queue, id, state, at, priority, ord, since, body)
    SELECT queue, id, CASE WHEN due > now_ THEN 1 ELSE 0 END, greatest(due, now_), priority, nextval('numbers'),
      greatest(due, now_), body FROM sorted ON CONFLICT DO NOTHING RETURNING queue, id)
  SELECT array_agg(first) INTO places
  FROM (SELECT min(s.place) AS first FROM sorted s JOIN added a ON a.queue = s.queue AND a.id = s.id GROUP BY a.queue, a.id) x;
  IF places IS NOT NULL THEN PERFORM fl_after(caller_, number_, places::text); END IF;
  RETURN places;
END $$;

-- The places, from 1, of the leases that held.
CREATE OR REPLACE FUNCTION fl_ack(caller_ text, number_ bigint, names text[], ids text[], fences bigint[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE ja text := fl_before(caller_, number_); places bigint[];
BEGIN
  IF ja IS NOT NULL THEN RETURN ja::bigint[]; END IF;
  WITH asked AS (
    SELECT q.id AS queue, u.id, u.fence, min(u.place) AS place FROM unnest(names, ids, fences)
      WITH ORDINALITY AS u(name, id, fence, place) JOIN queues q ON q.name = u.name WHERE u.fence <> 0 GROUP BY 1, 2, 3),
  gone AS (
    DELETE FROM items i USING asked a WHERE i.queue = a.queue AND i.id = a.id AND i.fence = a.fence AND i.state < 3
    RETURNING a.place)
  SELECT array_agg(place) INTO places FROM gone;
  IF places IS NOT NULL THEN PERFORM fl_after(caller_, number_, places::text); END IF;
  RETURN places;
END $$;

CREATE OR REPLACE FUNCTION fl_offset(e bigint, s bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT lpad(e::text, 13, '0') || '_' || lpad(s::text, 16, '0')
$$;

-- Brings a fed queue to what its topic has, and makes its next events items. Its ends when that skipped something.
CREATE OR REPLACE FUNCTION fl_take(name_ text, n int, now_ float8, OUT gap boolean, OUT e bigint, OUT f bigint, OUT l bigint)
LANGUAGE plpgsql AS $$
DECLARE q queues; t topics; gone int := 0; ready int; reached bigint;
BEGIN
  gap := false;
  SELECT * INTO q FROM queues WHERE name = name_ FOR UPDATE;
  SELECT * INTO t FROM topics WHERE name = q.topic AND (topics.gone IS NULL OR topics.gone > now_);
  IF NOT FOUND THEN RETURN; END IF;
  IF q.epoch <> t.epoch THEN
    DELETE FROM items WHERE queue = q.id AND seq IS NOT NULL AND NOT copied AND state < 3 AND epoch <> t.epoch;
  ELSIF t.first > 0 THEN
    DELETE FROM items WHERE queue = q.id AND state IN (0, 1) AND seq <= t.first AND NOT copied;
    GET DIAGNOSTICS gone = ROW_COUNT;
  END IF;
  IF q.epoch <> t.epoch OR q.cursor < t.first OR gone > 0 THEN
    UPDATE queues SET epoch = t.epoch,
      cursor = CASE WHEN q.epoch = t.epoch THEN greatest(q.cursor, t.first) ELSE t.first END WHERE id = q.id;
    gap := true; e := t.epoch; f := t.first; l := t.last;
    RETURN;
  END IF;
  SELECT count(*) INTO ready FROM (SELECT 1 FROM items WHERE queue = q.id AND state = 0 LIMIT n) x;
  IF ready >= n OR q.cursor >= t.last THEN RETURN; END IF;
  WITH fed AS (
    INSERT INTO items (queue, id, state, at, priority, ord, since, epoch, seq)
    SELECT q.id, fl_offset(t.epoch, x.seq), 0, now_, 0, nextval('numbers'), x.at, t.epoch, x.seq
    FROM (SELECT seq, at FROM events WHERE topic = t.id AND seq > q.cursor ORDER BY seq LIMIT n - ready) x
    ON CONFLICT DO NOTHING RETURNING seq)
  SELECT max(seq) INTO reached FROM fed;
  SELECT max(x.seq) INTO reached
  FROM (SELECT seq FROM events WHERE topic = t.id AND seq > q.cursor ORDER BY seq LIMIT n - ready) x;
  UPDATE queues SET cursor = coalesce(reached, t.last) WHERE id = q.id;
END $$;

CREATE OR REPLACE FUNCTION fl_claim(caller_ text, number_ bigint, name_ text, n int, ttl float8)
RETURNS TABLE (gap boolean, id text, fence bigint, attempt int, body bytea, until float8, priority int, ord bigint, epoch bigint,
  seq bigint, event_at float8, event_data bytea, event_type text, event_key text, event_headers text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE q queues; now_ float8 := fl_now(); took record; which bigint; ja jsonb; ids text[]; fences bigint[];
BEGIN
  SELECT * INTO q FROM queues WHERE name = name_;
  IF NOT FOUND THEN RETURN; END IF;
  ja := fl_before(caller_, number_)::jsonb;
  IF ja IS NULL THEN
    UPDATE items SET state = 0 WHERE queue = q.id AND items.id IN (
      SELECT i.id FROM items i WHERE i.queue = q.id AND i.state IN (1, 2) AND i.at <= now_ FOR UPDATE SKIP LOCKED);
    IF q.topic IS NOT NULL THEN
      SELECT * INTO took FROM fl_take(name_, n, now_);
      IF took.gap THEN
        ja := jsonb_build_object('gap', jsonb_build_array(took.e, took.f, took.l));
        PERFORM fl_after(caller_, number_, ja::text);
      END IF;
    END IF;
  END IF;
  IF q.topic IS NOT NULL THEN
    SELECT t.id INTO which FROM topics t WHERE t.name = q.topic AND (t.gone IS NULL OR t.gone > now_);
  END IF;
  IF ja ? 'gap' THEN
    gap := true; epoch := (ja->'gap'->>0)::bigint; fence := (ja->'gap'->>1)::bigint; seq := (ja->'gap'->>2)::bigint;
    RETURN NEXT;
    RETURN;
  ELSIF ja IS NULL THEN
    WITH chosen AS MATERIALIZED (
      SELECT i.id FROM items i WHERE i.queue = q.id AND i.state = 0
        AND (q.topic IS NULL OR which IS NOT NULL OR i.seq IS NULL OR i.copied)  -- while its topic is gone: what needs it not
      ORDER BY i.priority DESC, i.ord LIMIT n FOR UPDATE SKIP LOCKED),
    held AS (
      UPDATE items i SET state = 2, at = now_ + ttl, fence = nextval('numbers'), attempt = i.attempt + 1
      FROM chosen WHERE i.queue = q.id AND i.id = chosen.id RETURNING i.id, i.fence)
    SELECT array_agg(h.id), array_agg(h.fence) INTO ids, fences FROM held h;
    IF ids IS NULL THEN RETURN; END IF;
    PERFORM fl_after(caller_, number_, jsonb_build_object('ids', ids, 'fences', fences)::text);
  ELSE
    ids := ARRAY(SELECT jsonb_array_elements_text(ja->'ids'));
    fences := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(ja->'fences') x);
  END IF;
  RETURN QUERY
  SELECT false, h.id, h.fence, h.attempt, h.body, h.at, h.priority, h.ord, h.epoch, h.seq,
    CASE WHEN h.copied THEN h.event_at ELSE e.at END, CASE WHEN h.copied THEN h.event_data ELSE e.data END,
    CASE WHEN h.copied THEN h.event_type ELSE e.type END, CASE WHEN h.copied THEN h.event_key ELSE e.key END,
    CASE WHEN h.copied THEN h.event_headers ELSE e.headers END
  FROM items h LEFT JOIN events e ON e.topic = which AND e.seq = h.seq AND NOT h.copied
  WHERE h.queue = q.id AND h.id = ANY (ids) AND h.fence = ANY (fences) AND h.state = 2;
END $$;

CREATE OR REPLACE FUNCTION fl_term(name_ text, id_ text, fence_ bigint, reason_ text, at_ float8, data_ bytea, type_ text,
  key_ text, headers_ text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE i items; ev events; now_ float8 := fl_now();
BEGIN
  SELECT * INTO i FROM items WHERE queue = (SELECT q.id FROM queues q WHERE q.name = name_) AND id = id_ AND fence = fence_
    AND fence <> 0 AND state < 3 FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  IF i.seq IS NOT NULL AND NOT i.copied THEN
    SELECT e.* INTO ev FROM events e JOIN topics t ON t.id = e.topic JOIN queues q ON q.topic = t.name
    WHERE q.id = i.queue AND t.epoch = i.epoch AND e.seq = i.seq;
    UPDATE items SET copied = true, event_at = coalesce(ev.at, at_, now_), event_data = coalesce(ev.data, data_, ''),
      event_type = coalesce(ev.type, type_, ''), event_key = coalesce(ev.key, key_, ''),
      event_headers = coalesce(ev.headers, headers_, ''), body = coalesce(i.body, ev.data, data_, '')
    WHERE queue = i.queue AND id = i.id;
  END IF;
  UPDATE items SET state = 3, at = now_, fence = 0, reason = reason_, ord = nextval('numbers') WHERE queue = i.queue AND id = i.id;
  RETURN true;
END $$;

-- `pairs`: keys that are not there, each with its item. Those of them that were made, with their versions.
CREATE OR REPLACE FUNCTION fl_enqueue(caller_ text, number_ bigint, names text[], ids text[], bodies bytea[], ats float8[],
  priorities int[], keys text[], purposes text[], vals bytea[], dues float8[])
RETURNS text LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE now_ float8 := fl_now(); ja text := fl_before(caller_, number_);
BEGIN
  IF ja IS NOT NULL THEN RETURN ja; END IF;
  INSERT INTO queues (name) SELECT DISTINCT n FROM unnest(names) n WHERE NOT EXISTS (SELECT 1 FROM queues q WHERE q.name = n)
  ORDER BY n ON CONFLICT DO NOTHING;
  WITH given AS MATERIALIZED (
    SELECT * FROM unnest(names, ids, bodies, ats, priorities, keys, purposes, vals, dues)
      AS u(name, id, body, at, priority, key, purpose, value, due)),
  made AS (
    INSERT INTO entries (key, purpose, version, due, value) SELECT g.key, g.purpose, nextval('numbers'), g.due, g.value FROM given g
    ON CONFLICT DO NOTHING RETURNING entries.key, entries.version),
  put AS (
    INSERT INTO items (queue, id, state, at, priority, ord, since, body)
    SELECT (SELECT q.id FROM queues q WHERE q.name = g.name), g.id, CASE WHEN g.at > now_ THEN 1 ELSE 0 END, greatest(g.at, now_),
      g.priority, m.version, greatest(g.at, now_), g.body FROM made m JOIN given g ON g.key = m.key
    ON CONFLICT DO NOTHING)
  SELECT coalesce(json_agg(json_build_array(m.key, m.version)), '[]') INTO ja FROM made m;
  PERFORM fl_after(caller_, number_, ja);
  RETURN ja;
END $$;

-- `pairs`: a claim with the keys of what it takes; `fed` when the queue is fed by a topic, which is not done here. The keys are
-- looked up by a statement of its own, which sees all that was committed before the claim took its items.
CREATE OR REPLACE FUNCTION fl_draw(caller_ text, number_ bigint, name_ text, n int, ttl float8, prefix text)
RETURNS TABLE (fed boolean, id text, fence bigint, attempt int, body bytea, until float8, value bytea, version bigint,
  expires float8, due float8) LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE q queues; now_ float8 := fl_now(); ja jsonb; ids text[]; fences bigint[];
BEGIN
  SELECT * INTO q FROM queues WHERE name = name_;
  IF NOT FOUND THEN RETURN; END IF;
  IF q.topic IS NOT NULL THEN fed := true; RETURN NEXT; RETURN; END IF;
  ja := fl_before(caller_, number_)::jsonb;
  IF ja IS NULL THEN
    UPDATE items SET state = 0 WHERE queue = q.id AND items.id IN (
      SELECT i.id FROM items i WHERE i.queue = q.id AND i.state IN (1, 2) AND i.at <= now_ FOR UPDATE SKIP LOCKED);
    WITH chosen AS MATERIALIZED (
      SELECT i.id FROM items i WHERE i.queue = q.id AND i.state = 0 ORDER BY i.priority DESC, i.ord LIMIT n FOR UPDATE SKIP LOCKED),
    held AS (
      UPDATE items i SET state = 2, at = now_ + ttl, fence = nextval('numbers'), attempt = i.attempt + 1
      FROM chosen WHERE i.queue = q.id AND i.id = chosen.id RETURNING i.id, i.fence)
    SELECT array_agg(h.id), array_agg(h.fence) INTO ids, fences FROM held h;
    IF ids IS NULL THEN RETURN; END IF;
    PERFORM fl_after(caller_, number_, jsonb_build_object('ids', ids, 'fences', fences)::text);
  ELSE
    ids := ARRAY(SELECT jsonb_array_elements_text(ja->'ids'));
    fences := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(ja->'fences') x);
  END IF;
  RETURN QUERY
  SELECT false, h.id, h.fence, h.attempt, h.body, h.at, e.value, e.version, e.expires, e.due
  FROM unnest(ids, fences) u(id, fence) JOIN items h ON h.queue = q.id AND h.id = u.id AND h.fence = u.fence AND h.state = 2
  LEFT JOIN entries e ON e.key = prefix || h.id AND (e.expires IS NULL OR e.expires > now_) ORDER BY h.priority DESC, h.ord;
END $$;

-- `pairs`: keys changed by who holds the items that they belong to, and the items of those that are done let go.
-- Of each: its place, whether the lease is theirs, the new version if the old one was right.
CREATE OR REPLACE FUNCTION fl_settle(caller_ text, number_ bigint, names text[], ids text[], fences bigint[], keys text[],
  vals bytea[], versions bigint[], ttls float8[], dones boolean[])
RETURNS text LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE now_ float8 := fl_now(); ja text := fl_before(caller_, number_);
BEGIN
  IF ja IS NOT NULL THEN RETURN ja; END IF;
  WITH given AS MATERIALIZED (
    SELECT u.*, (SELECT q.id FROM queues q WHERE q.name = u.name) AS queue
    FROM unnest(names, ids, fences, keys, vals, versions, ttls, dones) WITH ORDINALITY
      AS u(name, id, fence, key, value, version, ttl, done, place)),
  held AS MATERIALIZED (
    SELECT g.* FROM given g JOIN items i ON i.queue = g.queue AND i.id = g.id
    WHERE i.fence = g.fence AND g.fence <> 0 AND i.state < 3 ORDER BY g.queue, g.id FOR UPDATE OF i),
  wrote AS (
    UPDATE entries e SET value = h.value, version = nextval('numbers'), expires = now_ + h.ttl, due = NULL FROM held h
    WHERE e.key = h.key AND e.version = h.version AND (e.expires IS NULL OR e.expires > now_) RETURNING h.place, e.version),
  gone AS (
    DELETE FROM items i USING held h JOIN wrote w ON w.place = h.place WHERE h.done AND i.queue = h.queue AND i.id = h.id)
  SELECT json_agg(json_build_array(g.place, h.place IS NOT NULL, w.version)) INTO ja
  FROM given g LEFT JOIN held h ON h.place = g.place LEFT JOIN wrote w ON w.place = g.place;
  PERFORM fl_after(caller_, number_, ja);
  RETURN ja;
END $$;

-- `pairs`: a key changed and its item removed, unless somebody holds it.
CREATE OR REPLACE FUNCTION fl_withdraw(name_ text, id_ text, key_ text, value_ bytea, version_ bigint, ttl float8)
RETURNS TABLE (place bigint, ours boolean, version bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE i items; now_ float8 := fl_now(); new_ bigint;
BEGIN
  SELECT * INTO i FROM items WHERE queue = (SELECT q.id FROM queues q WHERE q.name = name_) AND id = id_ FOR UPDATE;
  IF i.state = 2 AND i.at > now_ THEN
    RETURN QUERY SELECT 1::bigint, false, NULL::bigint; RETURN;
  END IF;
  UPDATE entries e SET value = value_, version = nextval('numbers'), expires = now_ + ttl, due = NULL
  WHERE e.key = key_ AND e.version = version_ AND (e.expires IS NULL OR e.expires > now_) RETURNING e.version INTO new_;
  IF new_ IS NOT NULL THEN
    DELETE FROM items WHERE queue = i.queue AND id = i.id;
  END IF;
  RETURN QUERY SELECT 1::bigint, true, new_;
END $$;
"""
