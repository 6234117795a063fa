/** What a node that stops says of itself, for as long as something holds its stop up. */
import { once } from "node:events";
import { connect } from "node:http2";
import { expect, test } from "vitest";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { openOverConnect } from "../fakes/any-call.ts";
import { some } from "../fakes/effort.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

test("a node that drains takes new connections at its edge: /healthz is 200, /readyz 503 with the word, calls are refused with a hint", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  // A call whose request never ends holds the stop up, for as long as node.stop_timeout.
  const session = connect(`http://${node.grpc}`);
  const path = "/waymark.discovery.v1.DiscoveryService/CatalogQuery";
  const held = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  for (const each of [session, held]) each.on("error", () => {});
  held.write(Buffer.alloc(3));
  await once(session, "connect"); // A ping before that is answered by nobody, and calls back all the same.
  // The node answers a ping after it has taken what came before it.
  const { promise: taken, resolve } = Promise.withResolvers<void>();
  session.ping(() => resolve());
  await taken;
  const stopped = node.stop("SIGTERM");
  const ask = async (door: string, init: RequestInit = {}) =>
    fetch(`http://${node.listeners["http"]}${door}`, { ...init, headers: { connection: "close", "content-type": "application/json" } });
  await node.command.errorLine(/"level":"info".*"msg":"node is stopping"/);
  await until("it drains", async () => (await (await ask("/readyz")).text()).includes('"draining"'));
  expect([(await ask("/healthz")).status, (await ask("/readyz")).status]).toEqual([200, 503]);
  const refused = await ask("/waymark.discovery.v1.DiscoveryService/CatalogQuery", { method: "POST", body: "{}" });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await refused.json()).toMatchObject({ details: [{ debug: { reason: "DRAINING" } }, {}] });
  session.destroy();
  await stopped;
  await expect(ask("/healthz")).rejects.toThrow("fetch failed");
});

test.each(some(["0", "1"]))(
  "with %s read workers open watches of members, policy and entries end with DRAINING, and hold no stop up",
  async (count) => {
    await using node = await startNodeProcess(["--ephemeral", "--workers", count]);
    const methods = [PeerService.method.watch, PolicyService.method.watchPolicy, DiscoveryService.method.catalogWatch];
    const opened = await Promise.all(methods.map((method) => openOverConnect(`http://${node.listeners["http"]}`, method, {})));
    const texts = Promise.all(opened.map((answer) => answer.text()));
    await node.stop("SIGTERM");
    for (const text of await texts) expect(text).toContain('"reason":"DRAINING"');
    expect(node.command.stderr).not.toContain("not drained");
  },
);
