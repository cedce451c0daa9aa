-- Who usage is attributed to, for reports; loaded after _common.lua by scripts that need it.

-- "<key>|<model>|<size>" or "" if unknown, the maximum number of labels per day, the number of labels of this request,
-- then the labels.
local function take_usage()
  local usage = { head = take_optional(take_word, 'usage'), labels_max = take_integer('labels of a day'), labels = {} }
  for index = 1, take_integer('number of labels') do
    local label = take('label')
    if #label > 1000 then refuse('label', label) end
    usage.labels[index] = label
  end
  return usage
end

-- Counts numbers for the key, model and size and once more for each label; notes that the key was served.
local function count_used(usage, at, now, numbers)
  if not usage.head then return count_usage(day_of(at), { { UNATTRIBUTED, numbers } }, 0) end
  local rows = { { usage.head, numbers } }
  for _, label in ipairs(usage.labels) do rows[#rows + 1] = { '=|' .. label, numbers, true } end
  count_usage(day_of(at), rows, usage.labels_max)
  local key = '@' .. string.match(usage.head, '^[^|]+')
  redis.call('HSET', USE, key, text(now))
  redis.call('ZADD', GC, text(now + usage_keep), 'u;' .. key)
end
