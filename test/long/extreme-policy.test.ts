/**
 * A peer of the own cluster that answers a node's question for the policy with documents of which any field is at its ends, or none: the node lives, tells
 * of its policy and of what came before, takes a later good one, writes, ends leases and starts again.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DescMethodUnary, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { FabricTransport } from "../../src/fabric/transport/transport.io.ts";
import type { PolicyHead } from "../../src/fabric/wire/messages.ts";
import { MAX_STAMP } from "../../src/lib/hlc.ts";
import { checksumOf } from "../../src/policy/set/rules.ts";
import { encodeVersion } from "../../src/policy/versions/codec.ts";
import type { PolicyVersion } from "../../src/policy/versions/version.ts";
import { type FakeMachine, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf } from "../fakes/fabric-values.ts";
import { fabricOf, startKeptNode } from "../fakes/kept-node.ts";
import { names, registered } from "../fakes/market.ts";
import { GrpcDoor } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { rule, set, span } from "../fakes/policies.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-policy-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

/** Without one no policy is taken. */
const TOKEN = "sixteen-letters-and-more";
/** After more documents that do not fit what was said of them a link is asked no more. */
const PER_LINK = 3;
const NOTHING = Symbol("left out");
const ENDS: readonly unknown[] = [
  NOTHING,
  // JSON makes null of it.
  Number.NaN,
  -1,
  0,
  0.1,
  2 ** 53 - 1,
  1e308,
  "",
  "\u0000",
  "x".repeat(20_000),
  [],
  {},
  [Number.NaN],
  Array.from({ length: 1_100 }, () => "a"),
];

function versionOf(number: number): PolicyVersion {
  const rules = [
    rule("bank.*", {
      owners: ["c1"],
      visibility: ["c1"],
      visibilityTenants: ["blue"],
      exportScopes: [1],
      policyVersion: "7",
      cutoverWindows: [span(1_000, 2_000, { exportScopes: [1], allowSummaries: true })],
    }),
  ];
  const made = set(rules, { version: `${number}`, defaultAllow: true });
  const fields = [{ field: "owners", removed: ["a"], added: ["c1"] }];
  return {
    number,
    hlc: Date.now() * 2048 + number,
    nodeId: "evil",
    version: made.version,
    defaultAllow: true,
    ruleCount: 1,
    appliedWallMs: 1_700_000_000_000,
    principal: "ann",
    reason: "why",
    changeTicket: "T-1",
    checksum: checksumOf(made),
    lineage: [{ number: 1, checksum: "a".repeat(64) }],
    stage: { by: "percent", percent: 50 },
    changes: [{ pattern: "bank.*", change: "changed", fields }],
    changesLeftOut: 0,
    set: made,
  };
}

type Path = readonly (string | number)[];

/** Of a value and all within it. */
function pathsOf(value: unknown, at: Path = []): readonly Path[] {
  if (typeof value !== "object" || value === null) return [at];
  const within = Object.entries(value).flatMap(([name, each]) => pathsOf(each, [...at, Array.isArray(value) ? Number(name) : name]));
  return at.length === 0 ? within : [at, ...within];
}

function changed(value: unknown, [name, ...rest]: Path, end: unknown): unknown {
  if (name === undefined) return end;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) }) as Record<string | number, unknown>;
  if (rest.length === 0 && end === NOTHING) delete copy[name];
  else copy[name] = changed(copy[name], rest, end);
  return copy;
}

interface Document {
  readonly what: string;
  readonly head: PolicyHead;
  readonly bytes: Uint8Array;
}

/** With the head and the sums that fit it, as far as there are any. */
function documentOf(number: number, path: Path, end: unknown): Document {
  const base = versionOf(number);
  let made = changed(base, path, end) as PolicyVersion;
  try {
    if (path[0] === "set") made = { ...made, checksum: checksumOf(made.set) };
  } catch {
    // It is no set at all.
  }
  // What is no stamp and no id ends the link before a document is asked for.
  const isStamp = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= MAX_STAMP;
  const isText = (value: unknown, form: RegExp): value is string => typeof value === "string" && form.test(value);
  const head = {
    number,
    hlc: isStamp(made.hlc) ? made.hlc : base.hlc,
    nodeId: isText(made.nodeId, /^\w{0,64}$/) ? made.nodeId : base.nodeId,
    checksum: isText(made.checksum, /^[0-9a-f]{64}$/) ? made.checksum : base.checksum,
  };
  const shown = typeof end === "string" || Array.isArray(end) ? `${JSON.stringify(end).slice(0, 20)} (${end.length})` : String(end);
  return { what: `${path.join(".")} ${shown}`, head, bytes: encodeVersion(made) };
}

function start(nodeId: string, ...more: readonly string[]): Promise<NodeProcess> {
  const token = join(data, "token");
  writeFileSync(token, TOKEN, { mode: 0o600 });
  const config = join(data, "config.json");
  writeFileSync(config, JSON.stringify({ fabric: { cluster_token_file: token } }));
  return startKeptNode(data, nodeId, "--config", config, ...more);
}

type Peer = FakeMachine & { readonly transport: FabricTransport };

/** Offers them over one link, and gives each when it is asked for. */
async function offer(peer: Peer, link: number, address: string, documents: readonly Document[]): Promise<void> {
  peer.transport.openLink(link, address);
  await until("it is greeted", () => (peer.links.get(link)?.frames.length ?? 0) > 0);
  for (const { what, head, bytes } of documents) {
    peer.say(link, { kind: "policyHead", head });
    await until(
      `${what} is asked for`,
      () => {
        const frames = peer.links.get(link)?.frames ?? [];
        return frames.some((frame) => frame.kind === "policyWanted" && frame.number === head.number);
      },
      15_000,
    );
    peer.say(link, { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length });
  }
}

function ask(door: GrpcDoor, method: DescMethodUnary): ReturnType<GrpcDoor["send"]> {
  return door.send(method, toBinary(method.input, fromJson(method.input, {})));
}

/** Numbers of the policy in force, and of all that were kept. */
async function policyOf(door: GrpcDoor): Promise<JsonObject> {
  const [status, history, exported] = await Promise.all([
    ask(door, PolicyService.method.policyStatus),
    ask(door, PolicyService.method.policyHistory),
    ask(door, PolicyService.method.exportPolicy),
  ]);
  for (const { code, reason, message } of [status, history, exported]) expect(`${code} ${reason} ${message}`).toMatch(/^OK/);
  return status.response;
}

test("every field of a policy document at its ends, then a good one, a write, the end of a lease, a restart, and a newcomer", async () => {
  const places = pathsOf(versionOf(1)).flatMap((path) => ENDS.map((end) => ({ path, end })));
  const documents = places.map(({ path, end }, n) => documentOf(n + 1, path, end));
  const last = documentOf(documents.length + 1, ["stage"], NOTHING);
  const peer = await openTestTransport({ clusterToken: TOKEN });
  await using parts = new AsyncDisposableStack();
  parts.defer(() => peer.transport.stop(200));
  peer.greeting = { kind: "hello", hello: helloOf("evil", { address: peer.transport.address, clusterToken: TOKEN }) };
  {
    await using node = await start("a");
    using door = new GrpcDoor(node.grpc);
    const address = fabricOf(node);
    for (let from = 0; from < documents.length; from += PER_LINK) {
      await offer(peer, 2 * from + 2, address, documents.slice(from, from + PER_LINK));
      // Of everything that was kept it is asked now and then: there is much of it, and older versions are dropped.
      if (from % 60 === 0) await policyOf(door);
      else if (from % 6 === 0) expect(await ask(door, PolicyService.method.policyStatus)).toMatchObject({ code: "OK" });
      peer.transport.closeLink(2 * from + 2);
    }
    await offer(peer, 1_000_000, address, [last]);
    await until("the last one is in force", async () => {
      const status = await policyOf(door);
      return status["number"] === String(last.head.number) ? [] : [JSON.stringify(status)];
    });
    await registered(door, "kept", { staticLease: true });
    await registered(door, "short", { ttl: "1s" });
    await until("the lease ends", async () => (await names(door)) === "kept");
    await node.stop("SIGKILL");
  }
  await using node = await start("a");
  using door = new GrpcDoor(node.grpc);
  expect(await policyOf(door)).toMatchObject({ number: String(last.head.number) });
  expect(await names(door)).toBe("kept");
  await using newcomer = await start("n", "--join", fabricOf(node));
  using newcomerDoor = new GrpcDoor(newcomer.grpc);
  expect(await policyOf(newcomerDoor)).toMatchObject({ number: String(last.head.number) });
  await registered(newcomerDoor, "theirs", { staticLease: true });
  await until("both have everything", async () => (await names(door)) === "kept,theirs" && (await names(newcomerDoor)) === "kept,theirs");
});
