"""The scripts of the Redis engine for queues and keys: see `redislua` for what they are kept in and what they may use."""

from __future__ import annotations

PRELUDE = r"""
local function meta(queue, id)
  local found = redis.call('HGET', P .. 'qi:' .. queue, id)
  return found and cmsgpack.unpack(found)
end
local function keep(queue, id, m) redis.call('HSET', P .. 'qi:' .. queue, id, cmsgpack.pack(m)) end
local function forget(queue, id, m)
  redis.call('HDEL', P .. 'qi:' .. queue, id)
  redis.call('HDEL', P .. 'qb:' .. queue, id)
  redis.call('ZREM', P .. 'qr:' .. queue, m.ord .. id)
  redis.call('ZREM', P .. 'qw:' .. queue, id)
  redis.call('ZREM', P .. 'qd:' .. queue, id)
  redis.call('ZREM', P .. 'qs:' .. queue, id)
  redis.call('ZREM', P .. 'ql:' .. queue, id)
end
local function ready(queue, id, m)
  if m.state == 2 then redis.call('ZREM', P .. 'ql:' .. queue, id) end
  m.state = 0
  redis.call('ZREM', P .. 'qw:' .. queue, id)
  redis.call('ZADD', P .. 'qr:' .. queue, int(-m.priority), m.ord .. id)
  redis.call('ZADD', P .. 'qs:' .. queue, flt(m.since), id)
  keep(queue, id, m)
end
local function later(queue, id, m, state, at)
  if state == 2 then
    redis.call('ZREM', P .. 'qs:' .. queue, id)
    redis.call('ZADD', P .. 'ql:' .. queue, flt(at), id)
  else
    redis.call('ZREM', P .. 'ql:' .. queue, id)
    redis.call('ZADD', P .. 'qs:' .. queue, flt(m.since), id)
  end
  m.state, m.at = state, flt(at)
  redis.call('ZREM', P .. 'qr:' .. queue, m.ord .. id)
  redis.call('ZADD', P .. 'qw:' .. queue, flt(at), id)
  keep(queue, id, m)
end
local function held(queue, id, fence)
  local m = meta(queue, id)
  if m and m.state ~= 3 and m.fence == fence and fence ~= '0' then return m end
end
local function queue_of(name)
  local h = redis.call('HMGET', P .. 'q:' .. name, 'topic', 'epoch', 'cursor')
  return h[1] and h[1] ~= '' and h[1] or nil, num(h[2]) or 0, num(h[3]) or 0
end
local function start(t, epoch, seq)
  return epoch == t.epoch and t.first <= seq and seq <= t.last
end
local function items(queue, each)
  local ids = redis.call('HKEYS', P .. 'qi:' .. queue)
  for _, id in ipairs(ids) do each(id, meta(queue, id)) end
end
"""

SCRIPTS = {
    # queue, topic, after epoch, after seq
    "feed": r"""
local queue, t = ARGV[3], topic(ARGV[4])
if not t then return done({'none'}) end
local old = queue_of(queue)
if old then return done({old == ARGV[4] and 'ok' or 'other', old}) end
local seq = t.last
if ARGV[5] ~= '' then
  seq = tonumber(ARGV[6])
  if not start(t, tonumber(ARGV[5]), seq) then return done({'gap', head(t)}) end
end
redis.call('HSET', P .. 'q:' .. queue, 'topic', ARGV[4], 'epoch', int(t.epoch), 'cursor', int(seq))
redis.call('ZADD', P .. 'queues', 0, queue)
redis.call('SADD', P .. 'fed:' .. ARGV[4], queue)
stir(queue)
return done({'ok'})
""",
    "seek": r"""
local queue, name = ARGV[3], queue_of(ARGV[3])
local t = name and topic(name)
if not t then return done({'none', name or ''}) end
if not start(t, tonumber(ARGV[4]), tonumber(ARGV[5])) then return done({'gap', head(t)}) end
items(queue, function(id, m) if m.state ~= 3 then forget(queue, id, m) end end)
redis.call('HSET', P .. 'q:' .. queue, 'epoch', ARGV[4], 'cursor', ARGV[5])
stir(queue)
return done({'ok'})
""",
    # queue, then id, body, due, priority of each
    "put": r"""
local queue, added, some = ARGV[3], {}, false
if redis.call('EXISTS', P .. 'q:' .. queue) == 0 then
  redis.call('HSET', P .. 'q:' .. queue, 'topic', '')
  redis.call('ZADD', P .. 'queues', 0, queue)
end
redis.call('HSET', P .. 'q:' .. queue, 'put', '1')
for at = 4, #ARGV, 4 do
  local id, due = ARGV[at], tonumber(ARGV[at + 2])
  local new = redis.call('HEXISTS', P .. 'qi:' .. queue, id) == 0
  if new then
    local m = {ord = pad(number()), priority = tonumber(ARGV[at + 3]), fence = '0', attempt = 0, since = flt(math.max(due, now))}
    redis.call('HSET', P .. 'qb:' .. queue, id, ARGV[at + 1])
    if due > now then later(queue, id, m, 1, due) else ready(queue, id, m) end
    some = true
  end
  added[#added + 1] = new and '1' or '0'
end
if some then stir(queue) end
return done(added)
""",
    # queue, n, ttl
    "claim": r"""
local queue, n, ttl = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', P .. 'q:' .. queue) == 0 then return done({}) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'qw:' .. queue, '-inf', flt(now), 'LIMIT', 0, 1000)) do
  ready(queue, id, meta(queue, id))
end
local name, epoch, cursor = queue_of(queue)
local t = name and topic(name)
if t then
  local gone = false
  if epoch ~= t.epoch then
    items(queue, function(id, m) if m.seq and not m.event and m.state ~= 3 and m.epoch ~= int(t.epoch) then forget(queue, id,
      m) end end)
  elseif t.first > (num(redis.call('HGET', P .. 'q:' .. queue, 'looked')) or 0) then
    items(queue, function(id, m)
      if m.seq and not m.event and m.state < 2 and tonumber(m.seq) <= t.first then
        forget(queue, id, m)
        gone = true
      end
    end)
    redis.call('HSET', P .. 'q:' .. queue, 'looked', int(t.first))
  end
  if epoch ~= t.epoch or cursor < t.first or gone then
    if epoch == t.epoch then cursor = math.max(cursor, t.first) else cursor = t.first end
    redis.call('HSET', P .. 'q:' .. queue, 'epoch', int(t.epoch), 'cursor', int(cursor), 'looked', int(t.first))
    return done({'gap', head(t)})
  end
  local missing = n - redis.call('ZCARD', P .. 'qr:' .. queue)
  if missing > 0 and cursor < t.last then
    local some = redis.call('XRANGE', P .. 'e:' .. name, int(cursor + 1), '+', 'COUNT', missing)
    for _, entry in ipairs(some) do
      local e = fields(entry)
      local id = string.format('%013.0f_%016.0f', t.epoch, e.seq)
      if redis.call('HEXISTS', P .. 'qi:' .. queue, id) == 0 then
        ready(queue, id, {ord = pad(number()), priority = 0, fence = '0', attempt = 0, since = e.a, epoch = int(t.epoch), seq
          = int(e.seq)})
      end
      cursor = e.seq
    end
    if #some < missing then cursor = t.last end
    redis.call('HSET', P .. 'q:' .. queue, 'cursor', int(cursor))
  end
end
local leases = {}
-- While its topic is gone only items that have their event with them can be claimed.
for _, member in ipairs(redis.call('ZRANGE', P .. 'qr:' .. queue, 0, (t or not name) and n - 1 or -1)) do
  local id = string.sub(member, 17)
  local m = meta(queue, id)
  local ev = m.event
  if #leases < n and (t or ev or not m.seq) then
    m.fence, m.attempt = int(number()), m.attempt + 1
    if m.seq and not ev then
      local found = redis.call('XRANGE', P .. 'e:' .. name, m.seq, m.seq)
      if found[1] then ev = event(found[1]) end
    end
    later(queue, id, m, 2, now + ttl)
    local body = redis.call('HGET', P .. 'qb:' .. queue, id)
    leases[#leases + 1] = {id, m.fence, int(m.attempt), body or (ev and ev[2]) or '', m.at, m.epoch or '', m.seq or '', ev or {}}
  end
end
return done({'ok', leases})
""",
    # ttl, then queue, id, fence of each
    "extend": r"""
local told = {}
for at = 4, #ARGV, 3 do
  local m = held(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  if m then later(ARGV[at], ARGV[at + 1], m, 2, now + tonumber(ARGV[3])) end
  told[#told + 1] = m and '1' or '0'
end
return done(told)
""",
    "ack": r"""
local told = {}
for at = 3, #ARGV, 3 do
  local m = held(ARGV[at], ARGV[at + 1], ARGV[at + 2])
  if m then forget(ARGV[at], ARGV[at + 1], m) end
  told[#told + 1] = m and '1' or '0'
end
return done(told)
""",
    # queue, id, fence, delay, whether there is a body, body
    "nack": r"""
local queue, id, delay = ARGV[3], ARGV[4], tonumber(ARGV[6])
local m = held(queue, id, ARGV[5])
if not m then return done('0') end
m.fence, m.since = '0', flt(now + delay)
if ARGV[7] == '1' then redis.call('HSET', P .. 'qb:' .. queue, id, ARGV[8]) end
if delay > 0 then later(queue, id, m, 1, now + delay) else ready(queue, id, m) end
stir(queue)
return done('1')
""",
    "term": r"""
local queue, id = ARGV[3], ARGV[4]
local m = held(queue, id, ARGV[5])
if not m then return done('0') end
if m.seq and not m.event then
  local name = queue_of(queue)
  local t = name and topic(name)
  local found = t and int(t.epoch) == m.epoch and redis.call('XRANGE', P .. 'e:' .. name, m.seq, m.seq) or {}
  m.event = found[1] and event(found[1])
    or {m.seq, ARGV[8] or '', ARGV[9] or '', ARGV[10] or '', ARGV[7] or flt(now), ARGV[11] or ''}
  redis.call('HSETNX', P .. 'qb:' .. queue, id, m.event[2])
end
redis.call('ZREM', P .. 'qr:' .. queue, m.ord .. id)
redis.call('ZREM', P .. 'qw:' .. queue, id)
redis.call('ZREM', P .. 'qs:' .. queue, id)
redis.call('ZREM', P .. 'ql:' .. queue, id)
m.ord = pad(number())
m.state, m.fence, m.at, m.reason = 3, '0', flt(now), ARGV[6]
redis.call('ZADD', P .. 'qd:' .. queue, m.ord, id)
keep(queue, id, m)
return done('1')
""",
    "dead": r"""
local queue, found, from = ARGV[2], {}, '-inf'
if ARGV[3] ~= '' then
  local score = redis.call('ZSCORE', P .. 'qd:' .. queue, ARGV[3])
  if not score then return {} end
  from = '(' .. int(tonumber(score))
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'qd:' .. queue, from, '+inf', 'LIMIT', 0, ARGV[4])) do
  local m = meta(queue, id)
  found[#found + 1] = {id, redis.call('HGET', P .. 'qb:' .. queue, id) or '', int(m.attempt), m.reason, m.at, m.epoch or '',
    m.seq or ''}
end
return found
""",
    "redrive": r"""
local queue, n, ids = ARGV[3], 0, {}
if ARGV[4] == '*' then
  ids = redis.call('ZRANGE', P .. 'qd:' .. queue, 0, -1)
else
  for at = 5, #ARGV do ids[#ids + 1] = ARGV[at] end
end
for _, id in ipairs(ids) do
  local m = meta(queue, id)
  if m and m.state == 3 then
    redis.call('ZREM', P .. 'qd:' .. queue, id)
    m.ord, m.attempt, m.fence, m.since, m.reason = pad(number()), 0, '0', flt(now), nil
    ready(queue, id, m)
    n = n + 1
  end
end
if n > 0 then stir(queue) end
return done(int(n))
""",
    "remove": r"""
local told = {}
for at = 4, #ARGV do
  local m = meta(ARGV[3], ARGV[at])
  if m then forget(ARGV[3], ARGV[at], m) end
  told[#told + 1] = m and '1' or '0'
end
return done(told)
""",
    "drop": r"""
local q = ARGV[3]
local name = queue_of(q)
if name then redis.call('SREM', P .. 'fed:' .. name, q) end
redis.call('UNLINK', P .. 'qi:' .. q, P .. 'qb:' .. q, P .. 'qr:' .. q, P .. 'qw:' .. q, P .. 'qd:' .. q, P .. 'qs:' .. q,
  P .. 'ql:' .. q)
redis.call('ZREM', P .. 'queues', q)
return done(int(redis.call('DEL', P .. 'q:' .. q)))
""",
    # -> ready, delayed, leased, dead, oldest, fed, unread, since when
    "depth": r"""
local queue, late, soon = ARGV[2], flt(now), '(' .. flt(now)
local waiting = redis.call('ZCARD', P .. 'qr:' .. queue) + redis.call('ZCOUNT', P .. 'qw:' .. queue, '-inf', late)
local leased = redis.call('ZCOUNT', P .. 'ql:' .. queue, soon, '+inf')
local delayed = redis.call('ZCOUNT', P .. 'qw:' .. queue, soon, '+inf') - leased
local oldest = num(redis.call('ZRANGEBYSCORE', P .. 'qs:' .. queue, '-inf', late, 'WITHSCORES', 'LIMIT', 0, 1)[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'ql:' .. queue, '-inf', late, 'LIMIT', 0, 1000)) do
  local had = tonumber(meta(queue, id).since)
  oldest = math.min(oldest or had, had)
end
local name, epoch, cursor = queue_of(queue)
local fed = 0
if name and redis.call('HEXISTS', P .. 'q:' .. queue, 'put') == 0 then
  fed = redis.call('HLEN', P .. 'qi:' .. queue) - redis.call('ZCARD', P .. 'qd:' .. queue)
elseif name then  -- some were put beside those of the topic
  items(queue, function(_, m) if m.state ~= 3 and m.seq then fed = fed + 1 end end)
end
local t, unread, since = name and alive(name), 0, nil
if t then
  local seq = epoch == t.epoch and math.max(cursor, t.first) or t.first
  local first = redis.call('XRANGE', P .. 'e:' .. name, int(seq + 1), '+', 'COUNT', 1)
  if first[1] then unread, since = t.last - seq, tonumber(fields(first[1]).a) end
end
return {int(waiting), int(delayed), int(leased), int(redis.call('ZCARD', P .. 'qd:' .. queue)), flt(oldest), int(fed),
  int(unread), flt(since)}
""",
    "queues": "return redis.call('ZRANGE', P .. 'queues', ARGV[2], ARGV[3], 'BYLEX')",
    "next_due": r"""
local queue, due = ARGV[2], nil
local function min(x) if x then due = math.min(due or x, x) end end
local first = redis.call('ZRANGE', P .. 'qr:' .. queue, 0, 0)[1]
if first then min(tonumber(meta(queue, string.sub(first, 17)).since)) end
min(num(redis.call('ZRANGE', P .. 'qw:' .. queue, 0, 0, 'WITHSCORES')[2]))
local name, epoch, cursor = queue_of(queue)
local t = name and alive(name)
if t then
  local seq = epoch == t.epoch and math.max(cursor, t.first) or t.first
  local some = redis.call('XRANGE', P .. 'e:' .. name, int(seq + 1), '+', 'COUNT', 1)
  if some[1] then min(tonumber(fields(some[1]).a)) end
end
return flt(due)
""",
    # since when, whether all that is ready counts, queues -> those in which something has become ready
    "became": r"""
local found = {}
for at = 4, #ARGV do
  local q = ARGV[at]
  local some = redis.call('ZCOUNT', P .. 'qw:' .. q, ARGV[3] == '1' and '-inf' or '(' .. ARGV[2], flt(now)) > 0
  if ARGV[3] == '1' and not some then
    some = redis.call('ZCARD', P .. 'qr:' .. q) > 0
    local name, epoch, cursor = queue_of(q)
    local t = name and alive(name)
    if t and (epoch ~= t.epoch or cursor < t.last) then some = true end
  end
  if some then found[#found + 1] = q end
end
return {flt(now), found}
""",
    "get": r"""
local e = redis.call('HMGET', P .. 's:' .. ARGV[2], 'v', 'n', 'x', 'u')
if not e[1] or (num(e[3]) and num(e[3]) <= now) then return {} end
return {e[1], e[2], e[3] or '', e[4] or ''}
""",
    # key, purpose, version, ttl, due, value
    "put_if": r"""
local key, purpose = ARGV[3], ARGV[4]
local e = redis.call('HMGET', P .. 's:' .. key, 'v', 'n', 'x', 'u')
if e[1] and num(e[3]) and num(e[3]) <= now then e = {false} end
if ARGV[5] ~= '' and ARGV[5] ~= (e[1] and e[2] or '0') then
  return done(e[1] and {'0', e[1], e[2], e[3] or '', e[4] or ''} or {'0'})
end
local n, ttl, due = int(number()), num(ARGV[6]), num(ARGV[7])
local x, u = ttl and flt(now + ttl) or '', due and string.format('%.17g', due) or ''
redis.call('HSET', P .. 's:' .. key, 'v', ARGV[8], 'n', n, 'x', x, 'u', u)
redis.call('ZADD', P .. 'keys', 0, key)
if ttl then redis.call('ZADD', P .. 'exp', x, key) else redis.call('ZREM', P .. 'exp', key) end
if due then redis.call('ZADD', P .. 'due:' .. purpose, u, key) else redis.call('ZREM', P .. 'due:' .. purpose, key) end
return done({'1', n, x, u})
""",
    "delete_if": r"""
local key = ARGV[3]
local e = redis.call('HMGET', P .. 's:' .. key, 'v', 'n', 'x', 'u')
if not e[1] or (num(e[3]) and num(e[3]) <= now) then return done({'none'}) end
if ARGV[5] ~= '' and ARGV[5] ~= e[2] then return done({'other', e[1], e[2], e[3] or '', e[4] or ''}) end
redis.call('UNLINK', P .. 's:' .. key)
redis.call('ZREM', P .. 'keys', key)
redis.call('ZREM', P .. 'exp', key)
redis.call('ZREM', P .. 'due:' .. ARGV[4], key)
return done({'gone'})
""",
    # low, high, limit
    "scan": r"""
local found, low, limit = {}, ARGV[2], tonumber(ARGV[4])
while #found < limit do
  local keys = redis.call('ZRANGE', P .. 'keys', low, ARGV[3], 'BYLEX', 'LIMIT', 0, 100)
  for _, key in ipairs(keys) do
    local e = redis.call('HMGET', P .. 's:' .. key, 'v', 'n', 'x', 'u')
    if e[1] and not (num(e[3]) and num(e[3]) <= now) and #found < limit then
      found[#found + 1] = {key, e[1], e[2], e[3] or '', e[4] or ''}
    end
    low = '(' .. key
  end
  if #keys < 100 then break end
end
return found
""",
    # prefix, purpose, limit
    "scan_due": r"""
local found, limit, place = {}, tonumber(ARGV[4]), 0
while #found < limit do
  local keys = redis.call('ZRANGEBYSCORE', P .. 'due:' .. ARGV[3], '-inf', flt(now), 'LIMIT', place, 100)
  for _, key in ipairs(keys) do
    if string.sub(key, 1, #ARGV[2]) == ARGV[2] and #found < limit then
      local e = redis.call('HMGET', P .. 's:' .. key, 'v', 'n', 'x', 'u')
      if e[1] and not (num(e[3]) and num(e[3]) <= now) then found[#found + 1] = {key, e[1], e[2], e[3] or '', e[4] or ''} end
    end
  end
  place = place + 100
  if #keys < 100 then break end
end
return found
""",
}

QUEUES = frozenset(
    ["feed", "seek", "put", "claim", "extend", "ack", "nack", "term", "dead", "redrive", "remove", "drop", "depth", "next_due"]
    + ["became", "enqueue", "draw", "settle", "withdraw"]
)
