/** A process with only the gRPC listener and the demo service, for tests that attack it. Prints its address, and tells its memory. */
import { parseArgs } from "node:util";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { type GrpcLimits, startGrpcListener } from "../../src/server/grpc-listener.io.ts";
import { listServices } from "../../src/services/service-table.ts";
import { demoChain, demoService } from "./demo-service.ts";
import { GRPC_LIMITS } from "./listener-limits.ts";
import { tellMemory } from "./memory.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    limits: { type: "string", default: "{}" },
  },
});
const limits = JSON.parse(values.limits) as Partial<GrpcLimits>;
const { chain } = demoChain({ metrics: new Metrics() });
const listener = await startGrpcListener({
  host: "127.0.0.1",
  port: Number(values.port),
  ...listServices([demoService().service]),
  chain,
  limits: { ...GRPC_LIMITS, ...limits },
  log: { info: () => {}, warn: (facts, event) => console.error(event, facts) },
});
listener.setServing(true);
tellMemory();
console.log(JSON.stringify({ port: listener.acceptor.port, pid: process.pid }));
process.on("SIGTERM", () => void listener.stop(1_000).then(() => process.exit(0)));
