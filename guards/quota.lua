-- The quotas of one scope: guards/quota_contract.py says what they promise, guards/quota_memory.py does the same in
-- Python. One script, so that each call is atomic over the three windows, the hold and the call's id.
--
-- KEYS[1]  the scope's memory, msgpack of {version, last, skew, held, known, second, minute, day}
--            last   when it was last written
--            skew   what is added to the clock: grows when the clock is set back, so that time here never runs back
--            held   until when nobody is granted anything
--            known  1 where the windows were counted from the beginning, 0 where only a hold was noted
--            a window is {number of its newest bucket, 61 counts, oldest first}
-- KEYS[2]  the call's id: when it was granted. Only where a limit bounds how many there can be.
-- ARGV[1]  what to do, ARGV[2] the time (tests only; '' for the server's clock), then what it needs
-- All times are whole microseconds, below 2^53.

local VERSION = 1
local WIDTHS = {16667, 1000000, 1440000000}
local KEPT = 61
local REPEATABLE = 10 * 1000000
local MEMORY_MS = 25 * 3600 * 1000

local WAIT, GRANTED, FORGOTTEN = 0, 1, 2

local function read_clock()
  if ARGV[2] ~= '' then return tonumber(ARGV[2]) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function load_memory()
  local stored = redis.call('GET', KEYS[1])
  if not stored then return nil end
  local readable, memory = pcall(cmsgpack.unpack, stored)
  if not readable or type(memory) ~= 'table' or memory[1] ~= VERSION then return nil end
  return {
    last = memory[2], skew = memory[3], held = memory[4], known = memory[5],
    windows = {memory[6], memory[7], memory[8]},
  }
end

local function save(memory, now)
  local lifetime = math.max(MEMORY_MS, math.ceil((memory.held - now) / 1000))
  local windows = memory.windows
  local packed = cmsgpack.pack(
    {VERSION, now, memory.skew, memory.held, memory.known, windows[1], windows[2], windows[3]})
  redis.call('SET', KEYS[1], packed, 'PX', string.format('%.0f', lifetime))
end

-- The memory as of now, its windows moved on; the time; whether it was there.
local function open_memory()
  local now = read_clock()
  local memory = load_memory()
  local found, set_back = memory ~= nil, false
  if memory then
    if now + memory.skew < memory.last then
      memory.skew = memory.last - now
      set_back = true
    end
    now = now + memory.skew
  else
    memory = {last = now, skew = 0, held = 0, known = 0, windows = {{0}, {0}, {0}}}
  end
  for w, window in ipairs(memory.windows) do
    local newest = math.floor(now / WIDTHS[w])
    local passed = newest - window[1]
    if passed > 0 then
      for i = 2, KEPT + 1 do window[i] = window[i + passed] or 0 end
      window[1] = newest
    end
  end
  if set_back then save(memory, now) end  -- even by who is refused: else time would stand still until the next grant
  return memory, now, found
end

local function add(memory, at, number)
  for w, window in ipairs(memory.windows) do
    local age = window[1] - math.floor(at / WIDTHS[w])
    if age < KEPT then
      local i = KEPT + 1 - math.max(age, 0)
      window[i] = math.max(window[i] + number, 0)
    end
  end
end

local function count(window)
  local total = 0
  for i = 2, KEPT + 1 do total = total + window[i] end
  return total
end

-- When the window will hold less than the limit, if nothing is added; 0 where it does already.
local function room_at(window, width, limit)
  local excess = count(window) - limit + 1
  if excess <= 0 then return 0 end
  for i = 2, KEPT + 1 do
    excess = excess - window[i]
    if excess <= 0 then return (window[1] - (KEPT + 1 - i) + KEPT) * width end
  end
end

local function add_ages(memory, now, packed)
  for _, age in ipairs(cmsgpack.unpack(packed)) do add(memory, now - age, 1) end
end

local operations = {}

-- ARGV[3]: '1' where a scope without memory must be rebuilt first; ARGV[4] to [6]: the limits, '' for none.
function operations.take()
  local memory, now = open_memory()
  local before = redis.call('GET', KEYS[2])
  if before and now - tonumber(before) <= REPEATABLE then return {GRANTED, 0} end
  if ARGV[3] == '1' and memory.known == 0 then return {FORGOTTEN, 0} end

  local free, limited = memory.held, false
  for w, window in ipairs(memory.windows) do
    local limit = tonumber(ARGV[3 + w])
    if limit then
      limited = true
      free = math.max(free, room_at(window, WIDTHS[w], limit))
    end
  end
  if free > now then return {WAIT, free - now} end

  memory.known = 1
  add(memory, now, 1)
  if limited then redis.call('SET', KEYS[2], string.format('%.0f', now), 'PX', REPEATABLE / 1000) end
  save(memory, now)
  return {GRANTED, 0}
end

function operations.give_back()
  local at = redis.call('GETDEL', KEYS[2])
  if not at then return {GRANTED, 0} end
  local memory, now, found = open_memory()
  if found and now - tonumber(at) <= REPEATABLE then
    add(memory, tonumber(at), -1)
    save(memory, now)
  end
  return {GRANTED, 0}
end

-- ARGV[3]: for how long.
function operations.hold()
  local memory, now = open_memory()
  memory.held = math.max(memory.held, now + tonumber(ARGV[3]))
  save(memory, now)
  return {GRANTED, 0}
end

-- ARGV[3]: msgpack of the ages.
function operations.rebuild()
  local memory, now = open_memory()
  if memory.known == 0 then
    memory.known = 1
    add_ages(memory, now, ARGV[3])
    save(memory, now)
  end
  return {GRANTED, 0}
end

-- ARGV[3]: as for take; ARGV[4]: msgpack of the ages.
function operations.tell()
  local memory, now = open_memory()
  if redis.call('EXISTS', KEYS[2]) == 1 then return {GRANTED, 0} end
  if ARGV[3] == '1' and memory.known == 0 then return {FORGOTTEN, 0} end
  memory.known = 1
  add_ages(memory, now, ARGV[4])
  redis.call('SET', KEYS[2], '0', 'PX', REPEATABLE / 1000)
  save(memory, now)
  return {GRANTED, 0}
end

function operations.usage()
  local memory = open_memory()
  local windows = memory.windows
  return {count(windows[1]), count(windows[2]), count(windows[3])}
end

return operations[ARGV[1]]()
