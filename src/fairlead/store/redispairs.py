"""The scripts of the Redis engine for `pairs`: items and keys at once, many in one script. What they are kept in: `redislua`.

What is done with each key of many is done for all in one command where there is one, and numbers are taken by the range. An
answer is a number (the key's new version), nothing (another has the lease), or the entry that is there.
"""

from __future__ import annotations

from typing import Any

from .contract import Gap
from .redisanswers import entry_of, head_of, lease_of, maybe
from .redisqueues import SCRIPTS as _QUEUES
from .sqlread import purpose_of

MOST = 1000  # items of one draw: Lua hands over no more than some thousands of values at once

PRELUDE = r"""
local function numbers(count)
  local n, lowest = redis.call('INCRBY', P .. 'n', count), math.floor(now * 1000000)
  if n - count < lowest then
    n = lowest + count
    redis.call('SET', P .. 'n', int(n))
  end
  return n - count
end
local function live(key)
  local e = redis.call('HMGET', P .. 's:' .. key, 'v', 'n', 'x', 'u')
  if e[1] and num(e[3]) and num(e[3]) <= now then e[1] = false return {}, e end
  return e[1] and {e[1], e[2], e[3] or '', e[4] or ''} or {}, e
end
-- what is to be done with each of many, by command and key
local batch, order = {}, {}
local function soon(command, key, ...)
  local name = command .. ' ' .. key
  local b = batch[name]
  if not b then
    b = {command, key}
    batch[name] = b
    order[#order + 1] = b
  end
  for _, value in ipairs({...}) do b[#b + 1] = value end
end
local function now_all()
  for _, b in ipairs(order) do redis.call(unpack(b)) end
end
local function set(key, purpose, value, n, ttl, due, e)
  local x = ttl and flt(now + ttl) or ''
  redis.call('HSET', P .. 's:' .. key, 'v', value, 'n', n, 'x', x, 'u', due or '')
  if ttl then soon('ZADD', P .. 'exp', x, key) elseif (e[3] or '') ~= '' then soon('ZREM', P .. 'exp', key) end
  local dues = P .. 'due:' .. purpose
  if due then soon('ZADD', dues, due, key) elseif (e[4] or '') ~= '' then soon('ZREM', dues, key) end
end
"""

SCRIPTS = {
    # queue, id, body, at, priority, key, purpose, value, due of each
    "enqueue": r"""
local told, stirred = {}, {}
local n = numbers((#ARGV - 2) / 9)
for at = 3, #ARGV, 9 do
  local queue, id, body, ready_at, key = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 5]
  local there, e = live(key)
  if there[1] then
    told[#told + 1] = there
  else
    n = n + 1
    set(key, ARGV[at + 6], ARGV[at + 7], int(n), nil, ARGV[at + 8] ~= '' and ARGV[at + 8] or nil, e)
    soon('ZADD', P .. 'keys', 0, key)
    if redis.call('HEXISTS', P .. 'qi:' .. queue, id) == 0 then
      local m = {ord = pad(n), priority = tonumber(ARGV[at + 4]), fence = '0', attempt = 0, since = flt(math.max(ready_at, now))}
      if body ~= '' then soon('HSET', P .. 'qb:' .. queue, id, body) end
      if ready_at > now then
        later(queue, id, m, 1, ready_at)
      else
        m.state = 0
        soon('ZADD', P .. 'qr:' .. queue, int(-m.priority), m.ord .. id)
        soon('ZADD', P .. 'qs:' .. queue, m.since, id)
        soon('HSET', P .. 'qi:' .. queue, id, cmsgpack.pack(m))
      end
      stirred[queue] = true
    end
    told[#told + 1] = int(n)
  end
end
now_all()
for queue in pairs(stirred) do
  if redis.call('HSET', P .. 'q:' .. queue, 'put', '1') == 1 then
    redis.call('HSETNX', P .. 'q:' .. queue, 'topic', '')
    redis.call('ZADD', P .. 'queues', 0, queue)
  end
  stir(queue)
end
return done(told)
""",
    # prefix, queue, n, ttl
    "draw": r"""
local prefix, queue, ttl, leases = ARGV[3], ARGV[4], tonumber(ARGV[6]), {}
if not queue_of(queue) then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'qw:' .. queue, '-inf', flt(now), 'LIMIT', 0, 1000)) do
    ready(queue, id, meta(queue, id))
  end
  local members, ids = redis.call('ZRANGE', P .. 'qr:' .. queue, 0, tonumber(ARGV[5]) - 1), {}
  if #members == 0 then return done({'ok', {}}) end
  for i, member in ipairs(members) do ids[i] = string.sub(member, 17) end
  local metas, bodies = redis.call('HMGET', P .. 'qi:' .. queue, unpack(ids)), redis.call('HMGET', P .. 'qb:' .. queue, unpack(ids))
  local n, ends = numbers(#ids), flt(now + ttl)
  for i, id in ipairs(ids) do
    local m = cmsgpack.unpack(metas[i])
    m.fence, m.attempt, m.state, m.at = int(n + i), m.attempt + 1, 2, ends
    soon('ZADD', P .. 'ql:' .. queue, ends, id)
    soon('ZADD', P .. 'qw:' .. queue, ends, id)
    soon('HSET', P .. 'qi:' .. queue, id, cmsgpack.pack(m))
    leases[i] = {id, m.fence, int(m.attempt), bodies[i] or '', m.at, '', '', {}}
  end
  redis.call('ZREM', P .. 'qr:' .. queue, unpack(members))
  redis.call('ZREM', P .. 'qs:' .. queue, unpack(ids))
  now_all()
else
  local function first()
    local ARGV = {ARGV[1], ARGV[2], unpack(ARGV, 4)}
    local done = function(answer) return answer end
CLAIM
  end
  local told = first()
  if told[1] ~= 'ok' then return done(told) end
  leases = told[2]
end
for _, lease in ipairs(leases) do lease[9] = live(prefix .. lease[1]) end
return done({'ok', leases})
""".replace("CLAIM", _QUEUES["claim"]),
    # queue, id, fence, key, purpose, value, version, ttl, whether it is done of each
    "settle": r"""
local told = {}
local n = numbers((#ARGV - 2) / 9)
for at = 3, #ARGV, 9 do
  local queue, id, key = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  local m = held(queue, id, ARGV[at + 2])
  if not m then
    told[#told + 1] = ''
  else
    local there, e = live(key)
    if there[2] ~= ARGV[at + 6] then
      told[#told + 1] = there
    else
      n = n + 1
      told[#told + 1] = int(n)
      set(key, ARGV[at + 4], ARGV[at + 5], int(n), num(ARGV[at + 7]), nil, e)
      if ARGV[at + 8] == '1' and m.state == 2 then
        redis.call('HDEL', P .. 'qi:' .. queue, id)  -- at once: who comes later in this script holds it no more
        soon('HDEL', P .. 'qb:' .. queue, id)
        soon('ZREM', P .. 'qw:' .. queue, id)
        soon('ZREM', P .. 'ql:' .. queue, id)
      elseif ARGV[at + 8] == '1' then
        forget(queue, id, m)
      end
    end
  end
end
now_all()
return done(told)
""",
    # queue, id, key, purpose, value, version, ttl
    "withdraw": r"""
local queue, id, key = ARGV[3], ARGV[4], ARGV[5]
local m = meta(queue, id)
if m and m.state == 2 and tonumber(m.at) > now then return done('') end
local there, e = live(key)
if there[2] ~= ARGV[8] then return done(there) end
local n = int(numbers(1) + 1)
set(key, ARGV[6], ARGV[7], n, num(ARGV[9]), nil, e)
if m then forget(queue, id, m) end
now_all()
return done(n)
""",
}


def answer_of(found: Any) -> Any:
    """What a script says of one call, as `pairs` has it."""
    if isinstance(found, list):
        return [entry_of(found)] if found else []
    return int(found) if found else None


class RedisPairs:
    """The words of `pairs`, over the line."""

    line: Any

    async def enqueue(self, calls: Any) -> list[Any]:
        """See `pairs`."""
        flat: list[Any] = []
        for queue, item, body, at, priority, key, value, due in calls:
            flat += (queue, item, bytes(body), repr(float(at)), priority, key, purpose_of(key), bytes(value), maybe(due))
        size = sum(len(call[6]) + len(call[2]) + 128 for call in calls)
        return [answer_of(one) for one in await self.line.write("enqueue", *flat, size=size)]

    async def draw(self, queue: str, n: int, ttl: float, owner: str, prefix: str) -> list[Any]:
        """See `pairs`."""
        found = await self.line.write("draw", prefix, queue, min(n, MOST), ttl) if n > 0 else []
        if found and found[0] == b"gap":
            head = head_of(found[1])
            raise Gap(f"queue {queue!r}: events up to {head.first} are gone; it goes on after them", head.first, head.last)
        return [[lease_of(queue, row[:8]), entry_of(row[8])] for row in found[1]] if found else []

    async def settle(self, calls: Any) -> list[Any]:
        """See `pairs`."""
        flat: list[Any] = []
        for queue, item, fence, key, value, version, ttl, done in calls:
            flat += (queue, item, fence, key, purpose_of(key), bytes(value), version, maybe(ttl), "1" if done else "0")
        size = sum(len(call[4]) + 128 for call in calls)
        return [answer_of(one) for one in await self.line.write("settle", *flat, size=size)]

    async def withdraw(self, calls: Any) -> list[Any]:
        """See `pairs`: rare, so each alone."""
        answers = []
        for queue, item, key, value, version, ttl in calls:
            args = (queue, item, key, purpose_of(key), bytes(value), version, maybe(ttl))
            answers.append(answer_of(await self.line.write("withdraw", *args)))
        return answers
