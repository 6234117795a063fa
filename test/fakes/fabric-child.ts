/** A process with only the fabric listener, for tests that attack it: it answers probes that show the token. Prints its port and pid, and tells its memory. */
import { openTestTransport } from "./fabric-transport.ts";
import { nodeRef } from "./fabric-values.ts";
import { tellMemory } from "./memory.ts";

const [token = ""] = process.argv.slice(2);
const node = await openTestTransport();
node.isStranger = (proof) => proof.clusterToken !== token;
node.requested = (call, _request, proof) =>
  node.transport.answer(call, proof.clusterToken === token ? { kind: "probe", from: nodeRef("b"), updates: [] } : undefined);
tellMemory();
console.log(JSON.stringify({ port: node.transport.port, pid: process.pid }));
process.on("SIGTERM", () => void node.transport.stop(1_000).then(() => process.exit(0)));
