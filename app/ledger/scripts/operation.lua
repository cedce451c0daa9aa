#!lua flags=allow-oom
-- One operation: begun, continued by the process that owns it, finished or cancelled, each in one step.
--
-- KEYS  1 ops     HASH  operation id -> "<claim>;<work>;<state>;<created_ms>;<lease_ms>;<ends_ms>;<wish>;<generation>;
--                       <cost>": those that are open or have cost something           never a TTL
--       2 opends  ZSET  operation id -> ends_ms; exactly the operations of ops        never a TTL
--       3 op      HASH  claim, work, state, created, lease, wish, text: the outcome of the operation; the only
--                       record of one that ended without a cost                                    always a TTL
--   claim  of the process that owns it     work   what was asked    lease  until when it is alive without a heartbeat
--   wish   1: cancellation was requested after it was sent     text   the result or the problem as JSON
--   generation, cost  its result and the cost, as in _claims.lua; empty before its end
-- ARGV  1 operation id   2 action
--       begin   3 claim   4 work   5 lease, ms   6 kept, ms   7 the tenant's maximum in ops
--       step    3 claim   4 waiting|running   5 lease, ms
--       finish  3 claim   4 done|failed   5 text   6 kept, ms   7 keep: it stays in ops; or free   8 generation   9 cost
--       cancel | read
-- Returns {code, now_ms, ttl_ms, state, created, lease, wish, text, generation, cost, malformed: an unreadable entry
--         that was removed, cut short, or ""}
--       ok        it was done, or read
--       kept      begin: it exists already for the same work, and is alive or done
--       mismatch  begin: it exists already for other work
--       crowded   begin: the tenant has its maximum; ttl_ms is the time until one of them ends
--       gone      there is none, or it now belongs to another process
--
--            waiting        running      done   failed, cancelled, or lost
--   begin    kept           kept         kept   begins anew
--   step     -> as asked    -> running   gone   gone, but a lost one goes on
--   finish   -> as asked    -> as asked  gone   gone, but a lost one ends
--   cancel   -> cancelled   wish         -      -

local OPS, OPENDS, OP = KEYS[1], KEYS[2], KEYS[3]
local id, action = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local PRUNED_MAX = 256

local function text(number) return string.format('%.0f', number) end

local malformed = ''

local function find()
  local raw = redis.call('HGET', OPS, id)
  if raw then
    local claim, work, state, created, lease, ends, wish, generation, cost =
      string.match(raw, '^([^;]*);([^;]*);(%a+);(%d+);(%d+);(%d+);([^;]*);([^;]*);([^;]*)$')
    if not ends then
      malformed = string.sub(raw, 1, 1000)
      redis.call('HDEL', OPS, id)
      redis.call('ZREM', OPENDS, id)
    elseif tonumber(ends) > now then
      return {
        booked = true, claim = claim, work = work, state = state, created = created, lease = tonumber(lease),
        ends = tonumber(ends), wish = wish, generation = generation, cost = cost,
      }
    end
  end
  local fields = redis.call('HMGET', OP, 'claim', 'work', 'state', 'created', 'lease', 'wish')
  if not fields[3] then return nil end
  return {
    claim = fields[1], work = fields[2], state = fields[3], created = fields[4], lease = tonumber(fields[5]),
    ends = now + math.max(0, redis.call('PTTL', OP)), wish = fields[6], generation = '', cost = '',
  }
end

local function book(op)
  redis.call('HSET', OPS, id, table.concat({
    op.claim, op.work, op.state, op.created, text(op.lease), text(op.ends), op.wish, op.generation, op.cost,
  }, ';'))
  redis.call('ZADD', OPENDS, text(op.ends), id)
end

local function cache(op, body)
  redis.call('HSET', OP, 'claim', op.claim, 'work', op.work, 'state', op.state, 'created', op.created,
    'lease', text(op.lease), 'wish', op.wish, 'text', body)
  redis.call('PEXPIRE', OP, text(math.max(1, op.ends - now)))
end

-- It has cost nothing, so nothing is promised: a full store may evict it.
local function release(op, body)
  cache(op, body)
  redis.call('HDEL', OPS, id)
  redis.call('ZREM', OPENDS, id)
end

local function write(op)
  if op.booked then return book(op) end
  redis.call('HSET', OP, 'state', op.state, 'lease', text(op.lease), 'wish', op.wish)
end

local op = find()
local open = op and (op.state == 'waiting' or op.state == 'running')

local function reply(code)
  if not op then return { code, text(now), '0', '', '', '', '', '', '', '', malformed } end
  local kept = redis.call('HMGET', OP, 'claim', 'text')
  local body = kept[1] == op.claim and kept[2] or ''
  return {
    code, text(now), text(math.max(0, op.ends - now)), op.state, op.created, text(op.lease), op.wish, body,
    op.generation, op.cost, malformed,
  }
end

if action == 'begin' then
  if op and op.claim == ARGV[3] then return reply('ok') end -- the same call again after its first reply was lost
  if op and ((open and op.lease > now) or op.state == 'done') then
    return reply(op.work == ARGV[4] and 'kept' or 'mismatch')
  end
  local due = redis.call('ZRANGE', OPENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, PRUNED_MAX)
  if #due > 0 then
    redis.call('HDEL', OPS, unpack(due))
    redis.call('ZREM', OPENDS, unpack(due))
  end
  if not (op and op.booked) and redis.call('ZCARD', OPENDS) >= tonumber(ARGV[7]) then
    local first = redis.call('ZRANGE', OPENDS, 0, 0, 'WITHSCORES')
    return { 'crowded', text(now), text(math.max(0, tonumber(first[2]) - now)), '', '', '', '', '', '', '', '' }
  end
  redis.call('DEL', OP)
  op = {
    booked = true, claim = ARGV[3], work = ARGV[4], state = 'waiting', created = text(now),
    lease = now + tonumber(ARGV[5]), ends = now + tonumber(ARGV[6]), wish = '', generation = '', cost = '',
  }
  book(op)
  return reply('ok')
end

if not op then return reply('gone') end

if action == 'cancel' then
  if op.state == 'waiting' then
    op.state = 'cancelled'
    release(op, '')
  elseif op.state == 'running' then
    op.wish = '1'
    write(op)
  end
  return reply('ok')
end

if action == 'step' or action == 'finish' then
  if action == 'finish' and op.claim == ARGV[3] and op.state == ARGV[4] then return reply('ok') end
  if op.claim ~= ARGV[3] or not open then return reply('gone') end
  if action == 'step' then
    op.state = op.state == 'running' and op.state or ARGV[4]
    op.lease = now + tonumber(ARGV[5])
    write(op)
  else
    op.state, op.ends, op.generation, op.cost = ARGV[4], now + tonumber(ARGV[6]), ARGV[8], ARGV[9]
    if ARGV[7] == 'keep' then
      cache(op, ARGV[5])
      book(op)
    else
      release(op, ARGV[5])
    end
  end
end
return reply('ok')
