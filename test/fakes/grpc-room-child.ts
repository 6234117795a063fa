/** A process with only a server of src/grpc, for tests that attack it. Prints its port, and tells its memory. */
import { createServer } from "node:net";
import { parseArgs } from "node:util";
import { GrpcServer, type ServerLimits } from "../../src/grpc/server/server.io.ts";
import { boundedInflater } from "../../src/grpc/wire/gzip.io.ts";
import { serverStreamMethod, unaryMethod } from "./grpc-handlers.ts";
import { tellMemory } from "./memory.ts";

const SERVICE = "/waymark.discovery.v1.DiscoveryService";
const { values } = parseArgs({ options: { limits: { type: "string", default: "{}" } } });
const answer = new Uint8Array(1_400);
const big = new Uint8Array(64 * 1_024);
const server = new GrpcServer({
  methods: [
    unaryMethod(`${SERVICE}/CatalogQuery`, () => answer),
    serverStreamMethod(`${SERVICE}/CatalogWatch`, () => ({ attach: () => {}, pull: () => undefined, close: () => {} })),
    serverStreamMethod("/t/Endless", () => ({ attach: () => {}, pull: () => big, close: () => {} })),
  ],
  limits: JSON.parse(values.limits) as Partial<ServerLimits>,
  inflater: boundedInflater(),
  onCut: (reason) => console.error("cut", reason),
});
const listener = createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => {});
  server.accept(socket);
});
listener.listen(0, "127.0.0.1", () => {
  const address = listener.address();
  console.log(JSON.stringify({ port: typeof address === "object" ? address?.port : 0, pid: process.pid }));
});
tellMemory();
