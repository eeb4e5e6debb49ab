# A Codex rollout to turns: messages, and the calls of tools with their results.
#
#   jq -nRc -f codex_to_turns.jq ROLLOUT.jsonl | convmem record - --jsonl
#
# One file at a time: the session's id stands in its first record. The talk is taken from
# response_item alone, since event_msg repeats it; reasoning is left out. Where an item has no id,
# its call's id or its line's number stands in, so that a second run stores nothing twice.

def record:
  if test("\\S") | not then empty else . end
  | try fromjson
    catch ("\(input_filename // "-"):\(input_line_number): not JSON, left out\n" | stderr | empty);

def turn($state):
  .payload as $item
  | (if $item.type == "message" then {role: $item.role, content: $item.content}
     elif $item.type | endswith("_call") then {role: "assistant", content: [$item]}
     elif $item.type | endswith("_output") then {role: "tool", content: [$item]}
     else empty end)
  | {
      continuation_id: $state.session,
      id: ($item.id
           // (if $item.call_id then "\($item.call_id) \($item.type)" else "line \($state.line)" end)),
      ts: $state.ts
    } + .
  | with_entries(select(.value != null));

foreach (inputs | (record // {}) | if type == "object" then . else {} end) as $record (
  {line: 0};
  .line += 1
  | .ts = ($record.timestamp // $record.payload.timestamp? // .ts)
  | if $record.type == "session_meta" then .session = ($record.payload | .session_id // .id) else . end;
  . as $state
  | $record
  | select(.type == "response_item" and (.payload | type) == "object")
  | select((.payload.type | type) == "string")
  | select($state.session != null)
  | turn($state)
)
