/**
 * A process that counts in a store and says on stdout how far it has come, until it is killed: `node store-child.ts DIRECTORY`.
 * Each line is one number.
 */
import { openSqliteStore } from "../../src/store/control/sqlite.io.ts";

const [directory = ""] = process.argv.slice(2);
const store = await openSqliteStore(directory);
for (let version = 0; ; version++) {
  await store.compareAndSwap("counter", version, new TextEncoder().encode(`${version + 1}`));
  process.stdout.write(`${version + 1}\n`);
}
