/** A real node that has not caught up with anybody: not ready, honest about its age, and nobody is told that an empty view is all. */
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { ProvedWatch } from "../fakes/proved-watch.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const MEMBER = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ nodeId: "other" }) };

const HOME = mkdtempSync(join(tmpdir(), "waymark-not-ready-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

/** Takes connections and never says a word; closes them all with itself. */
class Silent implements AsyncDisposable {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
  });

  async open(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}

test("while no seed answers: 503 with why, queries with an age, no END for a watch; after join_timeout it serves alone", {
  tags: ["night"],
}, async () => {
  await using seed = new Silent();
  const config = join(HOME, "node.json");
  writeFileSync(config, JSON.stringify({ fabric: { join_timeout: "17s" } }));
  const self = ["--node-id", "late", "--cluster-id", "c1", "--ephemeral", "--config", config];
  await using node = await UnreadyNode.start([...self, "--join", `127.0.0.1:${await seed.open()}`]);
  expect(await readyz(node.http)).toMatch(
    /^503 .*no seed has answered yet: set fabric\.seeds \(--join\) to the fabric address of a running node; without an answer, this node serves alone after fabric\.join_timeout/s,
  );
  using door = new GrpcDoor(node.grpc);
  const { code, response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  expect([code, response["items"] ?? [], response["age"], response["stale"]]).toEqual([
    "OK",
    [],
    expect.stringMatching(/^(?!0s$)\d/),
    true,
  ]);
  // A resolver would keep it, and say to others that nothing else exists.
  const ofResolver = await door.ask("catalogQuery", { forResolver: true, namespace: "svc.a", names: ["b"] });
  expect([ofResolver.code, ofResolver.message]).toEqual(["UNAVAILABLE", expect.stringContaining("not_ready")]);
  // Nobody has told it anything yet: what it lacks may have been there for years.
  expect(await door.ask("catalogQuery", { namespacePrefix: "svc", maxStaleness: "31536000s" })).toMatchObject({
    code: "UNAVAILABLE",
    reason: "too_stale",
    message: expect.stringContaining("the age of the data is not known yet") as string,
  });
  // These cannot say how old an answer is: nothing is called absent until this node knows the catalog.
  expect(await door.ask("resolve", { namespace: "svc.market", name: "web" })).toMatchObject({ code: "UNAVAILABLE", reason: "not_ready" });
  const member = () => fetch(`http://${node.http}/waymark.control.v1.PeerService/Get`, MEMBER);
  expect([(await member()).status, await (await member()).text()]).toEqual([503, expect.stringContaining("not_ready")]);
  // It may live elsewhere, and nobody would remove it.
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId: "1" };
  expect(await door.ask("unregister", { keys: [key] })).toMatchObject({ code: "UNAVAILABLE", reason: "not_ready" });
  // These say it.
  for (const [rpc, request] of [
    ["clusterMap", {}],
    ["listPeers", {}],
    ["namespaceStatus", { namespace: "svc.market" }],
  ] as const)
    expect(await door.ask(rpc, request)).toMatchObject({ code: "OK", response: { age: expect.stringMatching(/^\d{7}/) as string } });
  const targets = await fetch(`http://${node.http}/sd/prometheus`);
  expect([targets.status, targets.headers.get("retry-after"), await targets.text()]).toEqual([
    503,
    "1",
    expect.stringContaining("still catching up"),
  ]);
  expect((await fetch(`http://${node.http}/sd/prometheus?namespace=Svc`)).status).toBe(400);
  const resolver = new Resolver({ tries: 1, timeout: 30_000 });
  resolver.setServers([node.dns]);
  await expect(resolver.resolveSrv("_svc._tcp.web.svc.market.waymark")).rejects.toMatchObject({ code: "ESERVFAIL" });
  await using watch = new ProvedWatch([node.grpc]);
  await until("the watch has begun", () => watch.beginCount === 1);
  // Bookmarks come every second where there may be any.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  expect([watch.checkedCount, node.command.stdout, await readyz(node.http)]).toEqual([0, "", expect.stringMatching(/^503 /)]);
  await node.command.line(/"event":"ready"/);
  await until("the watch is told that this is all", () => watch.checkedCount > 0);
  expect(await readyz(node.http)).toMatch(/^200 /);
  expect(await door.ask("resolve", { namespace: "svc.market", name: "web" })).toMatchObject({ code: "NOT_FOUND" });
  expect(await door.ask("unregister", { keys: [key] })).toMatchObject({ code: "OK" });
  expect((await member()).status).toBe(404);
  expect(await (await fetch(`http://${node.http}/sd/prometheus`)).json()).toEqual([]);
  await expect(resolver.resolveSrv("_svc._tcp.web.svc.market.waymark")).rejects.toMatchObject({ code: "ENOTFOUND" });
});

test("a node whose word about itself the others refuse is not ready: /readyz, gRPC health, the metric and the lag say the same, and DNS says SERVFAIL", async () => {
  const other = await openTestTransport();
  const { address } = other.transport;
  const from = nodeRef("other");
  other.greeting = { kind: "hello", hello: helloOf("other", { address, isReady: true }) };
  other.answer = ({ kind }) => {
    if (kind === "pushPull") return { kind, from, members: [updateOf("other", { address })], ownUpdateRefused: "too many roles" };
    return kind === "probe" ? { kind, from, updates: [] } : undefined;
  };
  try {
    const config = join(HOME, "odd.json");
    writeFileSync(config, JSON.stringify({ dns: { processes: 1 } }));
    const self = ["--node-id", "odd", "--cluster-id", "c1", "--region", "eu", "--ephemeral", "--config", config, "--join", address];
    const starting = startNodeProcess(self);
    await until("the node is linked", () => other.links.size > 0);
    for (const link of other.links.keys()) {
      other.say(link, { kind: "policyHead", head: { number: 0, hlc: 0, nodeId: "", checksum: "" } });
      other.say(link, { kind: "vector", entries: [], digest: 0n, isPartial: false, isWanted: false });
    }
    await using node = await starting;
    using door = new GrpcDoor(node.grpc);
    const ask = async (path: string) => (await fetch(`http://${node.listeners["http"]}${path}`)).text();
    await until("/readyz says why", async () => {
      const text = await ask("/readyz");
      return text.includes("this node's member record is rejected by other (too many roles)") ? [] : [text];
    });
    expect(await ask("/readyz")).toContain('"status":"not_ready"');
    const lag = JSON.parse(await ask("/discovery/lag")) as { readonly ready?: boolean; readonly detail: string };
    expect([lag.ready ?? false, lag.detail]).toEqual([false, expect.stringContaining("most other nodes reject this node's member record")]);
    expect(/^waymark_ready .*$/m.exec(await ask("/metrics"))?.[0]).toBe("waymark_ready 0");
    expect((await door.send(Health.method.check, new Uint8Array())).response["status"]).toBe("NOT_SERVING");
    // Its process says so, and it does itself over HTTP.
    const resolver = new Resolver({ tries: 1, timeout: 30_000 });
    resolver.setServers([node.listeners["dns"] ?? ""]);
    await expect(resolver.resolve4("nothere.svc.market.waymark")).rejects.toMatchObject({ code: "ESERVFAIL" });
    const question = Buffer.from(queryBytes({ name: "nothere.svc.market.waymark", type: "A", bufsize: 1232 })).toString("base64url");
    const overHttp = await fetch(`http://${node.listeners["http"]}/dns-query?dns=${question}`);
    const said = Buffer.from(await overHttp.arrayBuffer());
    // With the extended error 14.
    expect([responseText(said), said.toString("hex")]).toEqual([
      expect.stringMatching(/^SERVFAIL/),
      expect.stringContaining("000f0002000e"),
    ]);
  } finally {
    await other.transport.stop(200);
  }
});
