/** A node of another cluster that speaks under the name of a node, in a later generation, ends nothing of that node's. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { BODY, KIND } from "../../src/catalog/record.ts";
import { encodeRecord } from "../../src/catalog/record-codec.ts";
import { SCOPE } from "../../src/catalog/scope.ts";
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
  expect((await door.ask("register", { entries: [entry], static: true })).code).toBe("OK");
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
