/**
 * A node of another cluster that speaks under the name of a node, in a later generation or in its own, ends nothing of that node's.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { FabricAuthority, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf } from "../fakes/fabric-values.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-stolen-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const authority = new FabricAuthority();
const LINK = 2;

function start(nodeId: string, clusterId: string, seed?: NodeProcess): Promise<NodeProcess> {
  const tls = authority.issue(nodeId, { clusterId });
  const at = (part: string, bytes: Uint8Array) => {
    const path = join(HOME, `${nodeId}.${part}`);
    writeFileSync(path, bytes, { mode: 0o600 });
    return path;
  };
  const files = { cert_file: at("cert", tls.cert), key_file: at("key", tls.key), ca_file: at("ca", tls.clientCa) };
  const clusters = ["c1", "c2", "c3"].filter((id) => id !== clusterId);
  const config = at(
    "json",
    Buffer.from(JSON.stringify({ fabric: { ...files, clusters, interval: "400ms", ping_timeout: "250ms", join_timeout: "1s" } })),
  );
  const named = [
    "--node-id",
    nodeId,
    "--cluster-id",
    clusterId,
    "--region",
    "eu",
    "--config",
    config,
    "--data-dir",
    join(HOME, `data-${nodeId}`),
  ];
  return startNodeProcess([...named, ...(seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? ""])]);
}

async function register(node: NodeProcess, name: string): Promise<void> {
  using door = new GrpcDoor(node.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.bank", name, instanceId: "1" }, scope: "SCOPE_REGION" };
  expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
}

async function shown(node: NodeProcess): Promise<string> {
  using door = new GrpcDoor(node.grpc);
  const { response } = await door.ask("catalogQuery", { namespacePrefix: "svc" });
  return ((response["items"] ?? []) as JsonObject[]).map((item) => textOf((item["key"] as JsonObject)["name"])).join(" ");
}

const shows = (node: NodeProcess, want: string) =>
  until(`${node.nodeId} shows ${want}`, async () => ((await shown(node)) === want ? [] : [await shown(node)]));

/** `x` of c2, by its own valid certificate, tells `a` of a later generation of `nodeId`, as one of c2, which ended that name. */
async function steal(a: NodeProcess, nodeId: string, name: string, clusterId: string): Promise<void> {
  const machine = await openTestTransport({ tls: authority.issue("x", { clusterId: "c2" }) });
  machine.greeting = {
    kind: "hello",
    hello: helloOf("x", { clusterId: "c2", address: machine.transport.address, generation: Date.now() }),
  };
  machine.transport.openLink(LINK, a.listeners["fabric"] ?? "");
  await until("linked", () => (machine.links.get(LINK)?.frames.length ?? 0) > 0);
  const head = { seq: 1, hlc: (Date.now() + 30_000) * 2048, reach: SCOPE.REGION, filterSeq: 0, firstSeq: 0, principal: "" };
  const record = encodeRecord(head, {
    body: BODY.EXPIRED,
    key: { kind: KIND.SERVICE, namespace: "svc.bank", name, instanceId: "1", clusterId },
  });
  const frame = { nodeId, generation: 4e15, after: 0, through: 1, records: [record], isComplete: false, isLast: false, floor: 0 };
  machine.say(
    LINK,
    { kind: "vector", entries: [], digest: 1n, isPartial: false, isWanted: false },
    { kind: "records", clusterId: "c2", region: "eu", frame },
  );
  const http = a.listeners["http"] ?? "";
  await until("the frame was taken in", async () =>
    (await (await fetch(`http://${http}/discovery/lag`)).text()).includes("4000000000000000"),
  );
  await machine.transport.stop(200);
}

test("of a node of a third cluster", async () => {
  await using a = await start("a", "c1");
  await using b = await start("b", "c3", a);
  await register(b, "of-b");
  await shows(a, "of-b");
  await steal(a, "b", "of-b", "c3");
  expect(await shown(a)).toBe("of-b");
});

test("of a node of our own cluster that was away when this one started", async () => {
  const first = await start("k", "c1");
  const gone = await start("g", "c1", first);
  await register(gone, "of-g");
  await shows(first, "of-g");
  await gone.stop("SIGKILL");
  await first.stop();
  await using again = await start("k", "c1");
  await shows(again, "of-g");
  await steal(again, "g", "of-g", "c1");
  expect(await shown(again)).toBe("of-g");
});

/** Of each origin that it holds, its generation and how far it is. */
async function heldAt(node: NodeProcess): Promise<ReadonlyMap<string, { readonly generation: number; readonly through: number }>> {
  const lag = (await (await fetch(`http://${node.listeners["http"] ?? ""}/discovery/lag`)).json()) as { readonly origins: JsonObject[] };
  return new Map(
    lag.origins.map((row) => [textOf(row["nodeId"]), { generation: Number(row["generation"]), through: Number(row["through"]) }]),
  );
}

test("a certificate of another cluster that carries the id of a node that is away says nothing of that node: of a third cluster's, and of ours", async () => {
  const first = await start("l", "c1");
  const [ours, theirs] = [await start("h", "c1", first), await start("d", "c3", first)];
  await register(ours, "of-h");
  await register(theirs, "of-d");
  await shows(first, "of-d of-h");
  const held = await heldAt(first);
  for (const node of [ours, theirs]) await node.stop("SIGKILL");
  await first.stop();
  await using again = await start("l", "c1");
  await shows(again, "of-d of-h");
  for (const [nodeId, home] of [
    ["h", "c1"],
    ["d", "c3"],
  ] as const) {
    const { generation = 0, through = 0 } = held.get(nodeId) ?? {};
    const machine = await openTestTransport({ tls: authority.issue(nodeId, { clusterId: "c2" }) });
    machine.greeting = { kind: "hello", hello: helloOf(nodeId, { clusterId: "c2", address: machine.transport.address, generation }) };
    machine.transport.openLink(LINK, again.listeners["fabric"] ?? "");
    await until("linked", () => (machine.links.get(LINK)?.frames.length ?? 0) > 0);
    const hlc = (Date.now() + 20_000) * 2048;
    const head = { seq: through + 1, hlc, reach: SCOPE.REGION, filterSeq: 0, firstSeq: 0, principal: "" };
    const key = { kind: KIND.SERVICE, namespace: "svc.bank", name: `of-${nodeId}`, instanceId: "1", clusterId: home };
    const records = [encodeRecord(head, { body: BODY.UNREGISTERED, key })];
    const frame = { nodeId, generation, after: through, through: through + 1, records, isComplete: false, isLast: false, floor: 0 };
    machine.say(LINK, { kind: "records", clusterId: "c2", region: "eu", frame });
    await until("it is refused", () =>
      again.command.stderr.includes(`the frame names cluster c2, but the origin is known to be in cluster ${home}`),
    );
    await machine.transport.stop(200);
  }
  expect(await shown(again)).toBe("of-d of-h");
});
