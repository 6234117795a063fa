/**
 * A process that records audit events and says on stdout up to which they are durable, until it is killed:
 * `node audit-child.ts DIRECTORY`. Each line is one number.
 */
import { openLog, recordAll } from "./audit-fixture.ts";

const [directory = ""] = process.argv.slice(2);
const log = await openLog(directory);
for (let i = 1; ; i += 3) {
  await recordAll(log, [`${i}`, `${i + 1}`, `${i + 2}`]);
  process.stdout.write(`${i + 2}\n`);
}
