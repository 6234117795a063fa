/**
 * Ends of HTTP/2 sessions. Node refuses a stream whose headers are too many or too long, and frees what it held of them when the current turn of
 * the event loop is over. Where the session is destroyed in that same turn, and collected before its end, Node ends the whole process: "Assertion
 * failed: (current_nghttp2_memory_) == (0)", seen with Node 24.21. The other end chooses its headers, and has many ways to have a session
 * destroyed: GOAWAY is one, and Node itself carries it out. So our sessions are destroyed in the next turn, whoever asks for it.
 */
import type { Http2Session } from "node:http2";

/** From now on `destroy` acts when the turn is over in which it was called; until then the session may bring more. Returns what tells whether it was called. */
export function endInNextTurn(session: Http2Session): () => boolean {
  const destroy = session.destroy.bind(session);
  let isEnding = false;
  session.destroy = (...args) => {
    if (isEnding) return;
    isEnding = true;
    setImmediate(() => destroy(...args));
  };
  return () => isEnding || session.destroyed;
}
