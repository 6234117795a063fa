/**
 * Opens and closes watches, registrations, clients and channels of grpc-js, as often as its parent says, and then tells what the process holds:
 * `busy-clients-child.ts NODE RESOLVER`. Runs with --expose-gc.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService, ServerInfoRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { resolveNamesBy } from "../../src/client/grpc/names.io.ts";
import { connect } from "../../src/client/index.ts";
import { endNow } from "./end-now.ts";
import { held } from "./memory.ts";

const [node = "", resolver = ""] = process.argv.slice(2);
const NAMESPACE = "svc.leak";
/** As many at a time as a program would have. */
const AT_ONCE = 10;
const CALL_MS = 30_000;

/** Programs with the address of the node, of the resolver beside it, and of both. */
const SEEDS = [[node], [resolver, node], [node, resolver]] as const;

async function round(i: number): Promise<void> {
  const client = connect({ servers: SEEDS[i % SEEDS.length] ?? [node], findServers: i % AT_ONCE === 0 });
  const key = { kind: EntryKind.SERVICE, namespace: NAMESPACE, name: "web", instanceId: String(i % 7) };
  const [host = "", port = ""] = node.split(":");
  const handle = await client.register([{ key, targets: [{ host, port: Number(port), protocol: "grpc" }] }]);
  const map = await client.watch({ namespace: NAMESPACE });
  map.resolve(NAMESPACE, "web")?.begin().succeeded();
  await client.resolve(NAMESPACE, "web");
  await callByName(i % 2 === 0 ? node : resolver);
  await map.close();
  await handle.close();
  client.close();
}

/** Opens a channel to the service by its name, calls it, and closes the channel. The node itself stands for the service. */
async function callByName(server: string): Promise<void> {
  const channel = new GrpcClient(`waymark://${server}/${NAMESPACE}/web`, credentials.createInsecure());
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const { serverInfo } = DiscoveryService.method;
  channel.makeUnaryRequest(
    `/${serverInfo.parent.typeName}/${serverInfo.name}`,
    () => Buffer.from(toBinary(ServerInfoRequestSchema, create(ServerInfoRequestSchema))),
    (bytes) => bytes,
    {},
    { deadline: Date.now() + CALL_MS },
    (error) => (error === null ? resolve() : reject(error)),
  );
  await promise.finally(() => channel.close());
}

async function run(rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, (_, k) => round(i + k)));
}

// Each name says which server is asked.
resolveNamesBy(undefined);
process.on("message", (rounds: number) => {
  void run(rounds)
    .then(held)
    .then((told) => process.send?.(told));
});
process.on("disconnect", endNow);
