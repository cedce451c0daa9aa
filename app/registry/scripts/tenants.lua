#!lua flags=allow-oom
-- Changes one stored tenant, writes the audit event and tells every replica, in one step.
--
-- KEYS  1 tenants HASH   tenant id -> "<version>;<document as JSON>"            never a TTL
--       2 owners  HASH   key id or identity -> tenant id, so that no two tenants share one
--       3 version STRING grows with every change; the tenant's own version is its value then
--       4 log     STREAM audit events, as JSON in the field "event"
--       5 change  STRING the version that this very change led to; it makes a repetition harmless
-- ARGV  1 tenant id   2 expected version, 0 where there must be none   3 document, or "" to delete
--       4 event       5 channel   6 how long a repetition is recognised, ms
--       7 number of ids and identities before the change, then these; then those after it
-- Returns {done, version} | {exists} | {changed} | {missing} | {taken, id or identity}

local TENANTS, OWNERS, VERSION, LOG, CHANGE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local LOG_LENGTH = 100000
local tenant, expected, document, event, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local keep, count = tonumber(ARGV[6]), tonumber(ARGV[7])

local earlier = redis.call('GET', CHANGE)
if earlier then return { 'done', earlier } end

local record = redis.call('HGET', TENANTS, tenant)
if record and expected == '0' then return { 'exists' } end
if not record and expected ~= '0' then return { 'missing' } end
if record and string.match(record, '^(%d+);') ~= expected then return { 'changed' } end
for index = 8 + count, #ARGV do
  local owner = redis.call('HGET', OWNERS, ARGV[index])
  if owner and owner ~= tenant then return { 'taken', ARGV[index] } end
end

local version = tostring(redis.call('INCR', VERSION))
for index = 8, 7 + count do redis.call('HDEL', OWNERS, ARGV[index]) end
for index = 8 + count, #ARGV do redis.call('HSET', OWNERS, ARGV[index], tenant) end
if document == '' then
  redis.call('HDEL', TENANTS, tenant)
else
  redis.call('HSET', TENANTS, tenant, version .. ';' .. document)
end
redis.call('XADD', LOG, 'MAXLEN', '~', LOG_LENGTH, '*', 'event', event)
redis.call('SET', CHANGE, version, 'PX', keep)
redis.call('PUBLISH', channel, version)
return { 'done', version }
