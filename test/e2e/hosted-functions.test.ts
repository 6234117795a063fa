/**
 * Functions and queues without targets are called at their node: Resolve, one-off lookups and live maps of the client give the same endpoints of it.
 *
 * @module-tag night
 */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { EntryKind, type Target } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect, ResolvePolicy } from "../../src/client/index.ts";
import { some } from "../fakes/effort.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const MANY = 40;
const placeOf = (target: Target | undefined) => (target === undefined ? "none" : `${target.protocol}://${target.host}:${target.port}`);

test.each(some([EntryKind.FUNCTION, EntryKind.QUEUE]))(
  "an entry of kind %i without a target has the same targets in Resolve, a lookup and a live map",
  async (kind) => {
    await using node = await startNodeProcess(["--ephemeral"]);
    const rpc = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
    const client = connect({ servers: [node.grpc] });
    const options = { kind, policy: ResolvePolicy.RANDOM };
    // It opens without an entry that is called at a node, and learns of the nodes later.
    await using early = await client.watch({ namespace: "fn" });
    const key = { kind, namespace: "fn", name: "price", instanceId: "1" };
    await rpc.register({ entries: [{ key }], staticLease: true });
    await until("the map has a target", () => early.resolve("fn", "price", options)?.target !== undefined);
    await using late = await client.watch({ namespace: "fn" });
    const targetsOf = async (resolve: () => Promise<{ readonly target?: Target | undefined } | undefined>) => {
      const places = new Set<string>();
      for (let i = 0; i < MANY; i++) places.add(placeOf((await resolve())?.target));
      return [...places].toSorted();
    };
    const wanted = [`grpc://${node.grpc}`, `http://${node.listeners["http"]}`];
    expect(await targetsOf(() => rpc.resolve({ ...key, policy: ResolvePolicy.RANDOM }))).toEqual(wanted);
    expect(await targetsOf(() => client.resolve("fn", "price", options))).toEqual(wanted);
    expect(await targetsOf(async () => early.resolve("fn", "price", options))).toEqual(wanted);
    expect(await targetsOf(async () => late.resolve("fn", "price", options))).toEqual(wanted);
    await early.close();
    await late.close();
    client.close();
  },
);
