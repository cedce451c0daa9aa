#!lua flags=allow-oom
-- Takes a checkpoint of a tenant's ledger: the value of every counter, under a number that is above those of all transitions
-- so far and below those of all later ones.
--
-- KEYS  res win exp gc (see _common.lua)
-- ARGV  journal that it is for, keep: how long the ledger keeps the journal's mark, ms
-- Returns {epoch, number, now_ms, counters, credit, limits, open holds}, or {""} if there is no ledger, or it is being
--         rebuilt
--         counters: name, settled, unresolved, overage, time until which the counter is kept (ms); credit: field, amount;
--         limits: field, "<limit>;<until_ms>" or "", number of the change

local journal = take_word('journal')
local keep = take_integer('keep')
take_nothing_more()

local now = server_now()
local epoch, opens = string.match(redis.call('HGET', WIN, EPOCH) or '', '^([^;]+);(%d+)$')
if not epoch or tonumber(opens) > now then return { '' } end
local number = take_number()
redis.call('HSET', WIN, CHECKPOINTED .. journal, text(number))
redis.call('ZADD', GC, text(now + keep), 'k;' .. journal)

local entries, values, names = redis.call('HGETALL', WIN), {}, {}
local counters, credit, limits = {}, {}, {}
for index = 1, #entries, 2 do
  local entry, value = entries[index], entries[index + 1]
  values[entry] = value
  local name, kind = string.match(entry, '^(.+):([suclon])$')
  if name and (kind == 's' or kind == 'u') and string.find(name, '|%d+$') then
    names[name] = true
  elseif kind == 'c' then
    credit[#credit + 1], credit[#credit + 2] = name, value
  elseif kind == 'n' then
    limits[#limits + 1], limits[#limits + 2], limits[#limits + 3] = name, redis.call('HGET', WIN, name .. ':l') or '', value
  end
end
for name in pairs(names) do
  local till = redis.call('ZSCORE', GC, 'w;' .. name)
  for _, value in ipairs({
    name, values[name .. ':s'] or '0', values[name .. ':u'] or '0', values[name .. ':o'] or '0',
    till and text(tonumber(till)) or text(now + keep),
  }) do
    counters[#counters + 1] = value
  end
end
return { epoch, text(number), text(now), counters, credit, limits, redis.call('ZRANGE', EXP, 0, -1) }
