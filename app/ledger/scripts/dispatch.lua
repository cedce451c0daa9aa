#!lua flags=allow-oom
-- Says that the upstream is about to be called; again and again while it runs, as a heartbeat.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends gen fail (see _common.lua)
-- ARGV  1 hold id   2 fingerprint   3 lease, ms   4, 5 keep (take_keep)   6 charge|release
-- Returns {code, record}: dispatched; or {code} alone, without any change expired | charged | settled | voided | unknown | conflict
--
-- Where the store has lost the lead of a hold that is alive, the heartbeat puts it back.

local hold = take_word('hold')
local fingerprint = take_word('fingerprint')
local lease = take_integer('lease')
local keep = take_keep()
local unknown_outcome = take_choice('unknown_outcome', { charge = true, release = true })
take_nothing_more()
if lease == 0 then refuse('lease', lease) end

local record = read_record(hold)
if not record then return { 'unknown' } end
if record.fingerprint ~= shorten(fingerprint) then return { 'conflict' } end
local now = server_now()
expire_if_due(record, now, keep, unknown_outcome)
if not is_open(record) then
  return { ({ s = 'settled', v = 'voided', x = 'expired', c = 'charged' })[record.state] }
end
if record.state == 'h' then
  record.state = 'd'
  write_records({ record })
end
redis.call('ZADD', EXP, text(now + lease), hold)
local kept = read_result(fingerprint) -- a later result than this hold, or the mark of a later purge, ends its lead
local newest = kept and tonumber(string.match(kept, '^[^;]+;(%d+);')) or -1
if flagged(record, 'f') and record.t0 > math.max(newest, purged_until(fingerprint, kept)) then
  local lead = read_lead(fingerprint, now)
  if not lead or (lead.hold == hold and not lead.failed) then write_lead(fingerprint, hold, now, lease) end
end
return { 'dispatched', format_record(record) }
