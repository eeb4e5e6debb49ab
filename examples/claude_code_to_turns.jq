# Claude Code transcripts to turns: what people, the model and its tools said, one turn a line.
#
#   jq -Rc -f claude_code_to_turns.jq SESSION.jsonl | convmem record - --jsonl
#
# One file at a time: with -R, jq glues the last line of a file that lacks its newline to the first
# line of the next, and most transcripts lack it. Records that are no messages (summaries,
# snapshots, progress) are left out; a line that is not JSON is named on standard error.
# claude_code_to_turns.py does the same without jq.

def record:
  try fromjson
  catch ("\(input_filename // "-"):\(input_line_number): not JSON, left out\n" | stderr | empty);

select(test("\\S"))
| record
| select(type == "object" and (.type == "user" or .type == "assistant"))
| select((.message | type) == "object" and .message.content != null)
| select((.sessionId | type) == "string" and (.uuid | type) == "string")
| {
    continuation_id: .sessionId,
    id: .uuid,
    ts: .timestamp,
    role: .message.role,
    content: .message.content,
    model: .message.model,
    parent: .parentUuid,
    agent: .agentId
  }
| with_entries(select(.value != null))
