/**
 * A resolver that stops while callers wait for what it does not hold.
 *
 * @module-tag night
 */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { FakeUpstream } from "../fakes/fake-upstream.ts";
import { closeAll } from "../fakes/grpc-room.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

afterAll(closeAll);

test("whoever waits while a resolver stops is told that it is draining, so that a client goes on elsewhere", async () => {
  const upstream = await new FakeUpstream("a").start();
  upstream.isSilent = true;
  await using resolver = await startNodeProcess(["--mode", "resolver", "--upstream", upstream.address, "--ephemeral"]);
  const discovery = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${resolver.grpc}` }));
  const waiting = discovery.namespaceStatus({ namespace: "svc" }).catch((error: unknown) => error);
  await until("the resolver asks its upstream", () => upstream.watchCount > 0);
  const stopped = resolver.stop("SIGTERM");
  expect(String(await waiting)).toContain("draining");
  await stopped;
});
