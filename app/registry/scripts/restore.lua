#!lua flags=allow-oom
-- Restores stored tenants that the store has lost, and removes again those whose deletion it has lost.
--
-- KEYS  tenants owners version log change (see tenants.lua)
-- ARGV  1 version of the argument: nothing is done if the store's is at least as great   2 channel
--       3 whole: tenants that are not listed were deleted; or part
--       4 number of tenants, then for each: id, "<version>;<document>", number of ids and identities, then these
-- Returns {version, number of tenants that were put back or removed}

local TENANTS, OWNERS, VERSION = KEYS[1], KEYS[2], KEYS[3]
local known, channel, whole = tonumber(ARGV[1]), ARGV[2], ARGV[3] == 'whole'
local stands = tonumber(redis.call('GET', VERSION) or '0') or 0
if stands >= known then return { tostring(stands), '0' } end

local function version_of(raw)
  return tonumber(string.match(raw or '', '^(%d+);') or '0')
end

local changed, count, listed = {}, 0, {}
local cursor = 5
for _ = 1, tonumber(ARGV[4]) do
  local id, raw, names = ARGV[cursor], ARGV[cursor + 1], tonumber(ARGV[cursor + 2])
  listed[id] = true
  if version_of(redis.call('HGET', TENANTS, id)) < version_of(raw) then
    changed[id] = { raw = raw }
    for index = cursor + 3, cursor + 2 + names do table.insert(changed[id], ARGV[index]) end
  end
  cursor = cursor + 3 + names
end
for _, id in ipairs(whole and redis.call('HKEYS', TENANTS) or {}) do
  if not listed[id] and version_of(redis.call('HGET', TENANTS, id)) <= known then changed[id] = {} end
end
local owners = redis.call('HGETALL', OWNERS)
for index = 1, #owners, 2 do
  if changed[owners[index + 1]] then redis.call('HDEL', OWNERS, owners[index]) end
end
for id, tenant in pairs(changed) do
  count = count + 1
  if tenant.raw then redis.call('HSET', TENANTS, id, tenant.raw) else redis.call('HDEL', TENANTS, id) end
  for _, name in ipairs(tenant) do redis.call('HSET', OWNERS, name, id) end
end
local version = string.format('%.0f', known + 1)
redis.call('SET', VERSION, version)
redis.call('PUBLISH', channel, version)
return { version, tostring(count) }
