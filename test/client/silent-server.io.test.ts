/** When a client leaves a server that keeps its connection and answers nothing, as one that stands still does. */
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { connect, RequestError } from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { until } from "../fakes/until.ts";

/** Two servers, of which the first one is asked first, and a client of both. */
async function two(timeoutMs: number) {
  const [frozen, next] = [new FakeDiscovery(), new FakeDiscovery()];
  await Promise.all([frozen.start(), next.start()]);
  const client = connect({ servers: [frozen.address, next.address], findServers: false, timeoutMs });
  const ask = () =>
    client.call(DiscoveryService.method.serverInfo, {}).then(
      () => "answered",
      (error: unknown) => (error instanceof RequestError ? error.facts.code : "?"),
    );
  const end = () => {
    client.close();
    for (const server of [frozen, next]) server.stop();
  };
  return { frozen, next, client, ask, end };
}

test("a server that answers nothing for the whole of a call is lost, although its connection stands: the next call goes elsewhere", async () => {
  const { frozen, next, client, ask, end } = await two(1200);
  expect([await ask(), client.server]).toEqual(["answered", frozen.address]);
  frozen.held.set("serverInfo", new Promise(() => {}));
  const failed = client.call(DiscoveryService.method.serverInfo, {});
  await expect(failed).rejects.toMatchObject({ isAway: true, facts: { code: "DEADLINE_EXCEEDED", isReachable: true, isSilent: true } });
  expect([await ask(), client.server]).toEqual(["answered", next.address]);
  end();
});

test("a server that answers other calls meanwhile, or had less than a second, is not lost", async () => {
  const { frozen, client, ask, end } = await two(1200);
  frozen.held.set("serverInfo", new Promise(() => {}));
  let isOver = false;
  const late = ask().finally(() => (isOver = true));
  const other = () => client.call(DiscoveryService.method.catalogQuery, { namespace: "svc" });
  await other();
  await until("the first call is over", async () => (await other(), isOver));
  expect([await late, client.server]).toEqual(["DEADLINE_EXCEEDED", frozen.address]);
  const short = client.call(DiscoveryService.method.serverInfo, {}, { timeoutMs: 20 });
  await expect(short).rejects.toMatchObject({ facts: { code: "DEADLINE_EXCEEDED" } });
  expect(client.server).toBe(frozen.address);
  end();
});
