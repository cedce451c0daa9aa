#!lua flags=allow-oom
-- Purges one piece of work, or all of a tenant's: results that were begun until now are neither served nor kept.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends gen fail (see _common.lua); without gen and fail,
--       all of the tenant's work
-- ARGV  keep         how long the mark of one piece of work is kept, ms: longer than any upstream call
--       fingerprint  of the work, or "" for all
-- Returns {now_ms}
--
-- The mark outlives the leader, so that a leader that is late, or whose successor failed, publishes nothing.

local keep = take_integer('keep')
local fingerprint = take_optional(take_word, 'fingerprint')
take_nothing_more()
if keep == 0 then refuse('keep', keep) end

local now = server_now()
if GEN then
  redis.call('HSET', WIN, purge_mark(fingerprint), text(now))
  redis.call('ZADD', GC, text(now + keep), 'p;' .. fingerprint)
  redis.call('DEL', GEN, FAIL)
  drop_lead(fingerprint)
else
  redis.call('HSET', WIN, PURGED, text(now))
end
return { text(now) }
