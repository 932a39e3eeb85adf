"""The scripts of the Redis engine: each word that changes something is one script, so it is done whole or not at all.

All keys begin with `{prefix}:`; the braces are a hash tag, so that in a cluster they live on one node and a script may touch
any of them.

    life              hash: shift, seen (the clock); floor: the newest epoch; base: topics up to it get a new one at their next
                      touch, since events were lost; run: whose data this is; weak: that it may lose what it has answered
    n                 the newest number: fences, versions, orders. Never below the clock's microseconds, so that a loss repeats none
    topics            names (sorted)          gone, trim    when topics go, when something in them is too old
    t:TOPIC           hash: the topic's ends and configuration; total, cut: bytes appended in all, and up to `first`
    e:TOPIC           stream: the events, with ids SEQ-0
    p: d: dz: k:TOPIC producers, dedupe keys and their times, the seq of each key (of a compacted topic)
    fed:TOPIC         the queues that it feeds
    queues            names                   q:QUEUE       hash: topic, epoch, cursor
    qi: qb:QUEUE      items by id: what is known of them, their bodies
    qr:QUEUE          what is ready, by priority and order        qw:QUEUE  what is delayed or leased, by time
    qd:QUEUE          the dead      ql:QUEUE  what is leased, by its end      qs:QUEUE  what is not, by since when it is due
    keys, exp         names of keys, when they go                 s:KEY     hash: value, version, expires, due       due:PURPOSE
    j:CALLER:GROUP    the answers of a node's last group of calls, so that a repeat after a broken connection changes nothing
    c:t:TOPIC, c:q:QUEUE   channels

Lua's numbers are doubles, exact up to 2^53: enough for seqs and microseconds, but `..` writes only 14 digits, hence `int`. What is
returned is text, since Redis cuts a number's fraction.
"""

from __future__ import annotations

from .redispairs import PRELUDE as _PAIR
from .redispairs import SCRIPTS as _PAIRS
from .redisqueues import PRELUDE as _QUEUE
from .redisqueues import QUEUES as _QUEUES
from .redisqueues import SCRIPTS as _MORE

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
  if t.epoch <= base then  -- its first touch since events were lost: an epoch that no other topic has
    floor = math.max(floor + 1, math.floor(now * 1000))
    t.epoch = floor
    redis.call('HSET', P .. 't:' .. name, 'epoch', int(floor))
    redis.call('HSET', P .. 'life', 'floor', int(floor))
  end
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
  floor = t.epoch
  redis.call('HSET', P .. 'life', 'floor', int(floor))
  redis.call('HSET', key, 'epoch', int(t.epoch), 'created', flt(now), 'config', text, 'compact', t.compact and '1' or '0')
  for _, field in ipairs({'keep', 'max_events', 'max_bytes', 'ttl', 'expires'}) do
    if t[field] then redis.call('HSET', key, field, string.format('%.17g', t[field])) end
  end
  redis.call('ZADD', P .. 'topics', 0, name)
  return t
end
local function save(t)
  t.gone = least(t.expires, t.ttl and t.used + t.ttl)
  redis.call('HSET', P .. 't:' .. t.name, 'first', int(t.first), 'last', int(t.last), 'closed', t.closed and '1'
    or '0', 'total', int(t.total),
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

_SCRIPTS = {
    # who asks, whether it was a replica before, whether it may lose what it answered -> whether there is a new epoch
    "check": r"""
local known = redis.call('HMGET', P .. 'life', 'run', 'weak')
local told = '0'
if known[1] and known[1] ~= ARGV[2] and (ARGV[3] == '1' or ARGV[4] == '1' or known[2] == '1') then
  base = math.max(math.floor(now * 1000), floor + 1, base + 1)
  redis.call('HSET', P .. 'life', 'base', int(base), 'floor', int(base))
  told = '1'
end
if known[1] ~= ARGV[2] or known[2] ~= ARGV[4] then redis.call('HSET', P .. 'life', 'run', ARGV[2], 'weak', ARGV[4]) end
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
SCRIPTS = {
    name: _PRELUDE + ("" if name in LOOKS else _WRITE) + (_QUEUE if name in _QUEUES else "") + body
    for name, body in {**_SCRIPTS, **_MORE, **{name: _PAIR + body for name, body in _PAIRS.items()}}.items()
}
