/** A process with only the HTTP edge and the demo service, for tests that attack it. Prints its port and pid, and tells its memory. */
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { startDemoEdge } from "./edge.ts";
import { tellMemory } from "./memory.ts";

const { edge } = await startDemoEdge({ ports: { metrics: new Metrics() } });
tellMemory();
console.log(JSON.stringify({ port: edge.acceptor.port, pid: process.pid }));
process.on("SIGTERM", () => void edge.stop(1_000).then(() => process.exit(0)));
