/** A crowd in a process of its own: `h2-crowd-child.ts PORT COUNT KIND` opens connections, says so, and holds them until killed. */
import { once } from "node:events";
import { PREFACE, RawConnection, settings } from "./h2-frames.ts";

/** A listen queue holds a thousand or so; more at once would wait for SYN retries. */
const AT_ONCE = 200;

const [port = "", count = "", kind = "greeted"] = process.argv.slice(2);

/** Resolves when the listener has answered, or where it waits for a first word, when there is a connection; or when that is over. */
function opened(): Promise<unknown> {
  const { socket } = new RawConnection(Number(port));
  if (kind !== "silent") socket.write(Buffer.concat([PREFACE, settings()]));
  return Promise.race([once(socket, kind === "silent" ? "connect" : "data"), once(socket, "close")]).catch(() => {});
}

for (let left = Number(count); left > 0; left -= AT_ONCE) await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, opened));
console.log("all were opened");
// Also when all of them were closed.
setInterval(() => {}, 60_000);
