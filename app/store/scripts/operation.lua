#!lua flags=allow-oom
-- One operation: begun, carried on by the process that owns it, ended or cancelled, each in one step.
--
-- KEYS  1 op  HASH  claim (of the process that owns it), work (fingerprint), state, created, lease (until, ms),
--                   wish (1: cancel was asked after it was sent), text                       always a TTL
-- ARGV  1 action
--       begin   2 claim   3 work   4 lease, ms   5 kept, ms
--       step    2 claim   3 waiting|running   4 lease, ms
--       finish  2 claim   3 done|failed   4 text   5 kept, ms
--       cancel | read
-- Returns {code, now_ms, ttl_ms, state, created, lease, wish, text}
--       ok        it was done, or read
--       kept      begin: it is there already, for the same work, and alive or done
--       mismatch  begin: it is there already, for other work
--       gone      there is none, or it belongs to another process by now
--
--            waiting        running      done   failed, cancelled, or lost
--   begin    kept           kept         kept   begins anew
--   step     -> as asked    -> running   gone   gone, but a lost one goes on
--   finish   -> as asked    -> as asked  gone   gone, but a lost one ends
--   cancel   -> cancelled   wish         -      -

local OP = KEYS[1]
local action = ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = redis.call('HMGET', OP, 'claim', 'work', 'state', 'created', 'lease')
local claim, work, state, lease = found[1], found[2], found[3], tonumber(found[5] or '0')
local open = state == 'waiting' or state == 'running'

local function text(number) return string.format('%.0f', number) end

local function reply(code)
  local seen = redis.call('HMGET', OP, 'state', 'created', 'lease', 'wish', 'text')
  local answer = { code, text(now), text(math.max(0, redis.call('PTTL', OP))) }
  for index = 1, 5 do answer[#answer + 1] = seen[index] or '' end
  return answer
end

if action == 'begin' then
  if state and claim == ARGV[2] then return reply('ok') end -- the same call again, its first answer was lost
  if (open and lease > now) or state == 'done' then
    return reply(work == ARGV[3] and 'kept' or 'mismatch')
  end
  redis.call('DEL', OP)
  redis.call('HSET', OP, 'claim', ARGV[2], 'work', ARGV[3], 'state', 'waiting', 'created', text(now),
    'lease', text(now + tonumber(ARGV[4])), 'wish', '', 'text', '')
  redis.call('PEXPIRE', OP, ARGV[5])
  return reply('ok')
end

if not state then return reply('gone') end

if action == 'cancel' then
  if state == 'waiting' then
    redis.call('HSET', OP, 'state', 'cancelled')
  elseif state == 'running' then
    redis.call('HSET', OP, 'wish', '1')
  end
  return reply('ok')
end

if action == 'step' or action == 'finish' then
  if action == 'finish' and claim == ARGV[2] and state == ARGV[3] then return reply('ok') end
  if claim ~= ARGV[2] or not open then return reply('gone') end
  if action == 'step' then
    local after = state == 'running' and state or ARGV[3]
    redis.call('HSET', OP, 'state', after, 'lease', text(now + tonumber(ARGV[4])))
  else
    redis.call('HSET', OP, 'state', ARGV[3], 'text', ARGV[4])
    redis.call('PEXPIRE', OP, ARGV[5])
  end
end
return reply('ok')
