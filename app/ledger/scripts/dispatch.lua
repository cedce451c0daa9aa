#!lua flags=allow-oom
-- Records that the upstream is about to be called; repeated as a heartbeat while the call runs.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends gen fail (see _common.lua)
-- ARGV  hold, fingerprint, lease (ms), keep (take_keep), unknown outcome (charge|release)
-- Returns {dispatched, record}; or, without any change, {expired | charged | settled | voided | unknown | conflict}
--
-- If the store has lost the lead of a live hold, the heartbeat restores it.

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
