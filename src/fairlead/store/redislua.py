"""The scripts of the Redis engine: each word that changes something is one script, so it is done whole or not at all.

All keys begin with `{prefix}:`; the braces are a hash tag, so that in a cluster they live on one node and a script may touch any of them.

    life              hash: shift, seen (the clock); base, floor (epochs); run (whose data this is)
    n                 the newest number: fences, versions, orders. Never below the clock's microseconds, so that a loss repeats none
    topics            names (sorted)          gone, trim    when topics go, when something in them is too old
    t:TOPIC           hash: the topic's ends and configuration; total, cut: bytes appended in all, and up to `first`
    e:TOPIC           stream: the events, with ids SEQ-0
    p: d: dz: k:TOPIC producers, dedupe keys and their times, the seq of each key (of a compacted topic)
    fed:TOPIC         the queues that it feeds
    queues            names                   q:QUEUE       hash: topic, epoch, cursor
    qi: qb:QUEUE      items by id: what is known of them, their bodies
    qr:QUEUE          what is ready, by priority and order        qw:QUEUE  what is delayed or leased, by time       qd:QUEUE  the dead
    keys, exp         names of keys, when they go                 s:KEY     hash: value, version, expires, due       due:PURPOSE
    j:CALLER:GROUP    the answers of a node's last group of calls, so that a repeat after a broken connection changes nothing
    c:t:TOPIC, c:q:QUEUE   channels

Lua's numbers are doubles, exact up to 2^53: enough for seqs and microseconds, but `..` writes only 14 digits, hence `int`. What is
returned is text, since Redis cuts a number's fraction.
"""

from __future__ import annotations

_PRELUDE = r"""
local P = ARGV[1]
local function num(x) if not x or x == '' then return nil end return tonumber(x) end
local function int(x) return string.format('%.0f', x) end
local function flt(x) if not x then return '' end return string.format('%.6f', x) end
local life = redis.call('HMGET', P .. 'life', 'shift', 'seen', 'base', 'floor')
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000 + (num(life[1]) or 0)
if (num(life[2]) or 0) > now then now = num(life[2]) end
local base, floor = num(life[3]) or 0, num(life[4]) or 0
local FIELDS = {'epoch', 'first', 'last', 'closed', 'total', 'cut', 'dead', 'created', 'used', 'gone', 'config', 'keep',
  'max_events', 'max_bytes', 'compact', 'ttl', 'expires'}
local function load_topic(name)
  local h = redis.call('HMGET', P .. 't:' .. name, unpack(FIELDS))
  if not h[1] then return nil end
  local t = {name = name, config = h[11], compact = h[15] == '1', closed = h[4] == '1'}
  for i, field in ipairs(FIELDS) do
    if i ~= 4 and i ~= 11 and i ~= 15 then t[field] = num(h[i]) end
  end
  t.epoch = math.max(t.epoch, base)
  return t
end
local function alive(name)
  local t = load_topic(name)
  if t and t.gone and t.gone <= now then return nil, t end
  return t
end
local function size(t) return t.total - t.cut - t.dead end
local function head(t)
  return {t.name, int(t.epoch), int(t.first), int(t.last), t.closed and '1' or '0', t.config, int(size(t)), flt(t.created)}
end
local function fields(entry)
  local e = {}
  for i = 1, #entry[2], 2 do e[entry[2][i]] = entry[2][i + 1] end
  e.seq = tonumber(string.match(entry[1], '^(%d+)'))
  return e
end
local function event(entry)
  local e = fields(entry)
  return {int(e.seq), e.d, e.t or '', e.k or '', e.a, e.h or ''}
end
local function pad(n) return string.format('%016.0f', n) end
"""

# Scripts that change something answer a repeat from the journal: KEYS[2] is the group's, ARGV[2] the call's number in it.
_WRITE = r"""
local before = redis.call('HGET', KEYS[2], ARGV[2])
if before then return cmsgpack.unpack(before) end
local function done(answer)
  redis.call('HSET', KEYS[2], ARGV[2], cmsgpack.pack(answer))
  redis.call('EXPIRE', KEYS[2], 3600)
  return answer
end
local function number()
  local n, least = redis.call('INCR', P .. 'n'), math.floor(now * 1000000)
  if n < least then
    n = least
    redis.call('SET', P .. 'n', int(n))
  end
  return n
end
local function erase(t)
  local n = t.name
  redis.call('UNLINK', P .. 't:' .. n, P .. 'e:' .. n, P .. 'p:' .. n, P .. 'd:' .. n, P .. 'dz:' .. n, P .. 'k:' .. n)
  redis.call('ZREM', P .. 'topics', n)
  redis.call('ZREM', P .. 'gone', n)
  redis.call('ZREM', P .. 'trim', n)
  if t.epoch > floor then
    floor = t.epoch
    redis.call('HSET', P .. 'life', 'floor', int(floor))
  end
end
local function topic(name)
  local t, dead = alive(name)
  if dead then erase(dead) end
  return t
end
local function least(a, b)
  if a and b then return math.min(a, b) end
  return a or b
end
local function make(name, text)
  local c = cjson.decode(text)
  local t = {name = name, epoch = math.max(math.floor(now * 1000), floor + 1, base), first = 0, last = 0, closed = false, total = 0,
    cut = 0, dead = 0, created = now, used = now, config = text, keep = c.keep, max_events = c.max_events, max_bytes = c.max_bytes,
    compact = c.compact or false, ttl = c.ttl, expires = c.expires}
  local key = P .. 't:' .. name
  redis.call('HSET', key, 'epoch', int(t.epoch), 'created', flt(now), 'config', text, 'compact', t.compact and '1' or '0')
  for _, field in ipairs({'keep', 'max_events', 'max_bytes', 'ttl', 'expires'}) do
    if t[field] then redis.call('HSET', key, field, string.format('%.17g', t[field])) end
  end
  redis.call('ZADD', P .. 'topics', 0, name)
  return t
end
local function save(t)
  t.gone = least(t.expires, t.ttl and t.used + t.ttl)
  redis.call('HSET', P .. 't:' .. t.name, 'first', int(t.first), 'last', int(t.last), 'closed', t.closed and '1' or '0', 'total', int(t.total),
    'cut', int(t.cut), 'dead', int(t.dead), 'used', flt(t.used), 'gone', flt(t.gone))
  if t.gone then redis.call('ZADD', P .. 'gone', flt(t.gone), t.name) end
end
-- Everything up to `seq` is trimmed.
local function cut_to(t, seq)
  if seq <= t.first then return end
  local stream = P .. 'e:' .. t.name
  if t.compact then
    redis.call('XTRIM', stream, 'MINID', int(seq + 1))
    t.total, t.cut, t.dead = 0, 0, 0
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do t.total = t.total + #fields(entry).d end
  else
    local found = redis.call('XREVRANGE', stream, int(seq), '-', 'COUNT', 1)
    if found[1] then t.cut = tonumber(fields(found[1]).c) end
    redis.call('XTRIM', stream, 'MINID', int(seq + 1))
  end
  t.first = seq
end
-- Trims what is too much, to the event; too old as well when `age`. True when there may be more.
local function trim(t, age)
  if t.compact then return false end
  local to = t.first
  if t.max_events and t.last - t.first > t.max_events then to = t.last - t.max_events end
  local more = false
  if (t.max_bytes and size(t) > t.max_bytes) or (age and t.keep) then
    local from = to
    for round = 1, 20 do
      local some = redis.call('XRANGE', P .. 'e:' .. t.name, int(from + 1), '+', 'COUNT', 50)
      local stopped = #some < 50
      for _, entry in ipairs(some) do
        local e = fields(entry)
        local left = t.total - (tonumber(e.c) - #e.d)
        local big = t.max_bytes and left > t.max_bytes and e.seq < t.last
        local old = age and t.keep and tonumber(e.a) < now - t.keep
        if not (big or old) then stopped = true break end
        from = e.seq
      end
      to = from
      if stopped then break end
      more = round == 20
    end
  end
  cut_to(t, to)
  return more
end
local function net(texts)
  local parts = {}
  for i, text in ipairs(texts) do parts[i] = #text .. ':' .. text end
  return table.concat(parts)
end
local function stir(queue) redis.call('PUBLISH', P .. 'c:q:' .. queue, '') end
-- Gives the events (`args` from `at` on: data, type, key, headers) their seqs, and tells.
local function add(t, args, at, n, close)
  t.used = math.max(now, t.used or now)
  local stream, first, news, bytes = P .. 'e:' .. t.name, t.last, {}, 0
  for i = 1, n do
    local d, k = args[at], args[at + 2]
    t.last, t.total = t.last + 1, t.total + #d
    if t.compact then
      local old = redis.call('HGET', P .. 'k:' .. t.name, k)
      if old then
        local gone = redis.call('XRANGE', stream, old, old)
        if gone[1] then t.dead = t.dead + #fields(gone[1]).d end
        redis.call('XDEL', stream, old .. '-0')
      end
      redis.call('HSET', P .. 'k:' .. t.name, k, int(t.last))
    end
    local add_ = {'XADD', stream, int(t.last) .. '-0', 'a', flt(t.used), 'c', int(t.total), 'd', d}
    if args[at + 1] ~= '' then add_[#add_ + 1] = 't' add_[#add_ + 1] = args[at + 1] end
    if k ~= '' then add_[#add_ + 1] = 'k' add_[#add_ + 1] = k end
    if args[at + 3] ~= '' then add_[#add_ + 1] = 'h' add_[#add_ + 1] = args[at + 3] end
    redis.call(unpack(add_))
    bytes = bytes + #d + #args[at + 3]
    if bytes <= 16384 then news[i] = net({int(t.last), d, args[at + 1], k, flt(t.used), args[at + 3]}) end
    at = at + 4
  end
  if close then t.closed = true end
  trim(t, false)
  save(t)
  if t.keep and n > 0 and not t.compact then redis.call('ZADD', P .. 'trim', 'NX', flt(t.used + t.keep), t.name) end
  if n > 0 or close then
    if bytes > 16384 or n > 64 then news = {} end
    redis.call('PUBLISH', P .. 'c:t:' .. t.name, net({int(t.epoch), int(t.last)}) .. table.concat(news))
    for _, queue in ipairs(redis.call('SMEMBERS', P .. 'fed:' .. t.name)) do stir(queue) end
  end
end
"""

_QUEUE = r"""
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
end
local function ready(queue, id, m)
  m.state = 0
  redis.call('ZREM', P .. 'qw:' .. queue, id)
  redis.call('ZADD', P .. 'qr:' .. queue, int(-m.priority), m.ord .. id)
  keep(queue, id, m)
end
local function later(queue, id, m, state, at)
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

_SCRIPTS = {
    # who asks, and whether a change of server may have cost data -> whether there is a new epoch
    "check": r"""
local run = redis.call('HGET', P .. 'life', 'run')
local told = '0'
if run and run ~= ARGV[2] and ARGV[3] == '1' then
  base = math.max(math.floor(now * 1000), floor + 1, base + 1)
  redis.call('HSET', P .. 'life', 'base', int(base), 'floor', int(base))
  told = '1'
end
if run ~= ARGV[2] then redis.call('HSET', P .. 'life', 'run', ARGV[2]) end
return told
""",
    "now": "return {flt(now), clock[1], clock[2], life[1] or '0'}",
    "shift": r"""
if (life[1] or '0') == ARGV[3] then redis.call('HSET', P .. 'life', 'shift', flt(tonumber(ARGV[3]) - tonumber(ARGV[4]))) end
return done('1')
""",
    "head": "local t = alive(ARGV[2]) if not t then return {} end return head(t)",
    "topics": r"""
local found = {}
local low = ARGV[2]
while #found < tonumber(ARGV[4]) do
  local names = redis.call('ZRANGE', P .. 'topics', low, ARGV[3], 'BYLEX', 'LIMIT', 0, 100)
  for _, name in ipairs(names) do
    local t = alive(name)
    if t and #found < tonumber(ARGV[4]) then found[#found + 1] = head(t) end
    low = '(' .. name
  end
  if #names < 100 then break end
end
return found
""",
    # topic, after epoch, after seq ('' : from the start), events, bytes
    "read": r"""
local t = alive(ARGV[2])
if not t then return {} end
local answer, events = {head(t), flt(t.used), flt(now)}, {}
local seq = num(ARGV[4]) or t.first
if ARGV[3] == '' or (tonumber(ARGV[3]) == t.epoch and seq >= t.first and seq <= t.last) then
  local most, room, complete = tonumber(ARGV[5]), tonumber(ARGV[6]), true
  while true do
    local some = redis.call('XRANGE', P .. 'e:' .. t.name, int(seq + 1), '+', 'COUNT', 64)
    for _, entry in ipairs(some) do
      local e = event(entry)
      room = room - #e[2]
      if #events >= most or (#events > 0 and room < 0) then complete = false break end
      events[#events + 1] = e
      seq = tonumber(e[1])
    end
    if not complete or #some < 64 then break end
  end
  answer[4], answer[5] = complete and '1' or '0', events
end
return answer
""",
    # names -> the ends of those that are there
    "ends": r"""
local found = {}
for i = 2, #ARGV do
  local t = alive(ARGV[i])
  if t then found[#found + 1] = {ARGV[i], int(t.epoch), int(t.last)} end
end
return found
""",
    "create": r"""
local t = topic(ARGV[3])
if t then return done({'there', head(t)}) end
t = make(ARGV[3], ARGV[4])
add(t, ARGV, 7, tonumber(ARGV[6]), ARGV[5] == '1')
return done({'made', head(t)})
""",
    # topic, producer, epoch, seq, dedupe, close, create, after epoch, after seq, window, n, events
    "append": r"""
local name, pid, pepoch, pseq, key, close = ARGV[3], ARGV[4], num(ARGV[5]), num(ARGV[6]), ARGV[7], ARGV[8] == '1'
local create, aepoch, aseq, window, n = ARGV[9], num(ARGV[10]), num(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local t = topic(name)
if not t and create == '' then return done({'none'}) end
local known, kepoch, kseq
if t then
  if pepoch then
    local found = redis.call('HGET', P .. 'p:' .. name, pid)
    if found then
      known = cmsgpack.unpack(found)
      kepoch, kseq = tonumber(known[1]), tonumber(known[2])
      if kepoch == pepoch and pseq <= kseq then return done({'ok', int(t.epoch), known[3], '0', '1', t.closed and '1' or '0'}) end
    end
  end
  if key ~= '' then
    local at = redis.call('ZSCORE', P .. 'dz:' .. name, key)
    if at and tonumber(at) >= now - window then
      return done({'ok', int(t.epoch), redis.call('HGET', P .. 'd:' .. name, key), '0', '1', t.closed and '1' or '0'})
    end
  end
  if t.closed then
    if close and n == 0 then return done({'ok', int(t.epoch), int(t.last), '0', '1', '1'}) end
    return done({'closed', int(t.epoch), int(t.last)})
  end
end
if pepoch then
  if known and pepoch < kepoch then return done({'stale', int(kepoch)}) end
  local expected = 0
  if known and pepoch == kepoch then expected = kseq + 1 end
  if pseq ~= expected then return done({'hole', int(expected), known and int(kepoch) or ''}) end
end
if aepoch and not (t and aepoch == t.epoch and aseq == t.last) then
  return done({'moved', t and int(t.epoch) or '0', t and int(t.last) or '0'})
end
local made = not t
if made then t = make(name, create) end
if made or n > 0 or close then add(t, ARGV, 14, n, close) end
if pepoch then redis.call('HSET', P .. 'p:' .. name, pid, cmsgpack.pack({int(pepoch), int(pseq), int(t.last), flt(now)})) end
if key ~= '' then
  redis.call('HSET', P .. 'd:' .. name, key, int(t.last))
  redis.call('ZADD', P .. 'dz:' .. name, flt(now), key)
  local old = redis.call('ZRANGEBYSCORE', P .. 'dz:' .. name, '-inf', flt(now - window), 'LIMIT', 0, 8)
  if old[1] then
    redis.call('ZREM', P .. 'dz:' .. name, unpack(old))
    redis.call('HDEL', P .. 'd:' .. name, unpack(old))
  end
end
return done({'ok', int(t.epoch), int(t.last), int(n), '0', t.closed and '1' or '0'})
""",
    "trim": r"""
local t = topic(ARGV[3])
if not t then return done({'none'}) end
local epoch, seq = tonumber(ARGV[4]), tonumber(ARGV[5])
if epoch == t.epoch and seq <= t.first then return done({'ok', head(t)}) end
if not (epoch == t.epoch and seq <= t.last) then return done({'gap', head(t)}) end
cut_to(t, seq)
save(t)
return done({'ok', head(t)})
""",
    "delete": r"""
local t = topic(ARGV[3])
if t then erase(t) end
return done(t and '1' or '0')
""",
    "touch": r"""
local t = topic(ARGV[3])
if t then t.used = now save(t) end
return done('1')
""",
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
    items(queue, function(id, m) if m.seq and not m.event and m.state ~= 3 and m.epoch ~= int(t.epoch) then forget(queue, id, m) end end)
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
        ready(queue, id, {ord = pad(number()), priority = 0, fence = '0', attempt = 0, since = e.a, epoch = int(t.epoch), seq = int(e.seq)})
      end
      cursor = e.seq
    end
    if #some < missing then cursor = t.last end
    redis.call('HSET', P .. 'q:' .. queue, 'cursor', int(cursor))
  end
end
local leases = {}
for _, member in ipairs(redis.call('ZRANGE', P .. 'qr:' .. queue, 0, n - 1)) do
  local id = string.sub(member, 17)
  local m = meta(queue, id)
  m.fence, m.attempt = int(number()), m.attempt + 1
  local ev = m.event
  if m.seq and not ev and t then
    local found = redis.call('XRANGE', P .. 'e:' .. name, m.seq, m.seq)
    if found[1] then ev = event(found[1]) end
  end
  later(queue, id, m, 2, now + ttl)
  local body = redis.call('HGET', P .. 'qb:' .. queue, id)
  leases[#leases + 1] = {id, m.fence, int(m.attempt), body or (ev and ev[2]) or '', m.at, m.epoch or '', m.seq or '', ev or {}}
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
  m.event = found[1] and event(found[1]) or {m.seq, '', '', '', flt(now), ''}
  redis.call('HSETNX', P .. 'qb:' .. queue, id, m.event[2])
end
redis.call('ZREM', P .. 'qr:' .. queue, m.ord .. id)
redis.call('ZREM', P .. 'qw:' .. queue, id)
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
  found[#found + 1] = {id, redis.call('HGET', P .. 'qb:' .. queue, id) or '', int(m.attempt), m.reason, m.at, m.epoch or '', m.seq or ''}
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
redis.call('UNLINK', P .. 'qi:' .. q, P .. 'qb:' .. q, P .. 'qr:' .. q, P .. 'qw:' .. q, P .. 'qd:' .. q)
redis.call('ZREM', P .. 'queues', q)
return done(int(redis.call('DEL', P .. 'q:' .. q)))
""",
    # -> ready, delayed, leased, dead, oldest, fed, unread, since when
    "depth": r"""
local queue, waiting, delayed, leased, oldest, fed = ARGV[2], 0, 0, 0, nil, 0
items(queue, function(id, m)
  if m.state == 3 then return end
  if m.seq then fed = fed + 1 end
  if m.state == 0 or tonumber(m.at) <= now then
    waiting = waiting + 1
    oldest = math.min(oldest or tonumber(m.since), tonumber(m.since))
  elseif m.state == 1 then delayed = delayed + 1 else leased = leased + 1 end
end)
local name, epoch, cursor = queue_of(queue)
local t, unread, since = name and alive(name), 0, nil
if t then
  local seq = epoch == t.epoch and math.max(cursor, t.first) or t.first
  local first = redis.call('XRANGE', P .. 'e:' .. name, int(seq + 1), '+', 'COUNT', 1)
  if first[1] then unread, since = t.last - seq, tonumber(fields(first[1]).a) end
end
return {int(waiting), int(delayed), int(leased), int(redis.call('ZCARD', P .. 'qd:' .. queue)), flt(oldest), int(fed), int(unread), flt(since)}
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
    # purposes cannot be read from a key that is gone, so it is given: window -> whether there is more
    "sweep": r"""
local more = '0'
if (num(life[2]) or 0) < now then redis.call('HSET', P .. 'life', 'seen', flt(now)) end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'gone', '-inf', flt(now), 'LIMIT', 0, 50)) do
  if not topic(name) then redis.call('ZREM', P .. 'gone', name) end
end
local due = redis.call('ZRANGEBYSCORE', P .. 'trim', '-inf', flt(now), 'LIMIT', 0, 50)
for _, name in ipairs(due) do
  local t = topic(name)
  redis.call('ZREM', P .. 'trim', name)
  if t then
    local left = trim(t, true)
    redis.call('HSET', P .. 't:' .. name, 'first', int(t.first), 'cut', int(t.cut))
    local first = redis.call('XRANGE', P .. 'e:' .. name, '-', '+', 'COUNT', 1)[1]
    if left then
      redis.call('ZADD', P .. 'trim', flt(now), name)
      more = '1'
    elseif first then
      redis.call('ZADD', P .. 'trim', flt(tonumber(fields(first).a) + t.keep), name)
    end
  end
end
if #due == 50 then more = '1' end
local keys = redis.call('ZRANGEBYSCORE', P .. 'exp', '-inf', flt(now), 'LIMIT', 0, 200)
for _, key in ipairs(keys) do
  redis.call('UNLINK', P .. 's:' .. key)
  redis.call('ZREM', P .. 'keys', key)
  redis.call('ZREM', P .. 'exp', key)
  redis.call('ZREM', P .. 'due:' .. (string.match(key, '^[^/]*/') or key), key)
end
if #keys == 200 then more = '1' end
return done(more)
""",
}

LOOKS = frozenset(
    ["check", "now", "head", "topics", "read", "ends", "dead", "depth", "queues", "next_due", "became", "get", "scan", "scan_due"]
)  # fmt: skip
_QUEUES = frozenset(
    ["feed", "seek", "put", "claim", "extend", "ack", "nack", "term", "dead", "redrive", "remove", "drop", "depth", "next_due", "became"]
)  # fmt: skip
SCRIPTS = {
    name: _PRELUDE + ("" if name in LOOKS else _WRITE) + (_QUEUE if name in _QUEUES else "") + body
    for name, body in _SCRIPTS.items()
}
