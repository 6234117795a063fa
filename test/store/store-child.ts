/**
 * A process that counts in a store and says on stdout how far it has come, until it is killed: `node store-child.ts DIRECTORY`.
 * Each line is one number.
 */
import { openStore } from "../../src/store/open.io.ts";

const [directory = ""] = process.argv.slice(2);
const store = await openStore({ kind: "sqlite", directory });
for (let version = 0; ; version++) {
  await store.compareAndSwap("counter", version, new TextEncoder().encode(`${version + 1}`));
  process.stdout.write(`${version + 1}\n`);
}
