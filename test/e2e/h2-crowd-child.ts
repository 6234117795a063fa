/** A crowd in a process of its own: `h2-crowd-child.ts PORT COUNT KIND` opens connections, says so, and holds them until killed. */
import { PREFACE, RawConnection, settings } from "./h2-frames.ts";

const [port = "", count = "", kind = "greeted"] = process.argv.slice(2);
const connections: RawConnection[] = [];
for (let i = 0; i < Number(count); i++) {
  const connection = new RawConnection(Number(port));
  connections.push(connection);
  if (kind !== "silent") connection.send(PREFACE, settings());
  // A listen queue holds a thousand or so; more at once would wait for SYN retries.
  if (i % 200 === 199) await new Promise((resolve) => setTimeout(resolve, 30));
}
await new Promise((resolve) => setTimeout(resolve, 500));
console.log(JSON.stringify({ openCount: connections.filter((connection) => !connection.isClosed).length }));
setInterval(() => {
  console.log(JSON.stringify({ openCount: connections.filter((connection) => !connection.isClosed).length }));
}, 500);
