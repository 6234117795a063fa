/** Clients made from `proto/` with each language's own tools, against a real node that is killed and stopped under them. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { DiscoveryDelta_Cause } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { mustRun, ROOT, run } from "../../scripts/run.ts";
import { isEtcdThere } from "../fakes/etcd.ts";
import { plainCode, type Restart, runClient, type Summary } from "./client-process.ts";
import { drainUnder } from "./drained-clients.ts";
import { emptySnapshot, removal, runNames, runNamesAfter } from "./names-process.ts";
import { findPython, isGoThere, isJavaThere } from "./needs.ts";

const GO = join(ROOT, "test/interop/go");
const GO_PROGRAM = join(ROOT, ".cache/interop-go");
const GO_NAMES = join(ROOT, ".cache/interop-go-names");
const PYTHON = join(ROOT, "test/interop/python");
const JAVA = join(ROOT, "test/interop/java");
const JAVA_PROGRAM = join(ROOT, ".cache/interop-java");

const isGo = await isGoThere();
const python = await findPython();
const isJava = await isJavaThere();

const RESTARTS = {
  "kill -9": { signal: "SIGKILL", isEphemeral: false },
  SIGTERM: { signal: "SIGTERM", isEphemeral: false },
  "kill -9 without a disk": { signal: "SIGKILL", isEphemeral: true },
} as const satisfies Readonly<Record<string, Restart>>;

/** The tags of the scenario with each kind of restart. */
type Tiers = Readonly<Record<keyof typeof RESTARTS, "night" | "path" | undefined>>;

/** Several groups of tests run the same programs, which are built once. */
function once(build: () => Promise<void>): () => Promise<void> {
  let built: Promise<void> | undefined;
  return () => (built ??= build());
}

const buildGo = once(async () => {
  mkdirSync(join(ROOT, ".cache"), { recursive: true });
  await mustRun("buf", ["generate", "--template", "buf.gen.yaml"], { cwd: GO });
  await mustRun("go", ["vet", "./..."], { cwd: GO });
  await mustRun("go", ["build", "-o", GO_PROGRAM, "."], { cwd: GO });
  await mustRun("go", ["build", "-o", GO_NAMES, "./names"], { cwd: GO });
});

const generatePython = once(async () => {
  const out = join(PYTHON, "gen");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
  const files = ["catalog", "control", "discovery", "options", "policy"].flatMap((area) =>
    readdirSync(join(ROOT, "proto/waymark", area, "v1")).map((file) => `waymark/${area}/v1/${file}`),
  );
  const outs = [`--python_out=${out}`, `--grpc_python_out=${out}`];
  const args = ["-m", "grpc_tools.protoc", "-Iproto", "-Ithird_party/proto", ...outs, ...files, "buf/validate/validate.proto"];
  await mustRun(python ?? "python3", args);
});

const PYTHON_COMMAND = [python ?? "python3", join(PYTHON, "main.py")];

/** With what a JVM that lives for seconds does not need left out: a build takes half of the processor's time. */
const SHORT_LIVED = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

async function buildJava(): Promise<void> {
  const repository = `-Dmaven.repo.local=${join(ROOT, ".cache/maven")}`;
  await mustRun("mvn", ["--batch-mode", "--quiet", "--no-transfer-progress", repository, "process-classes"], {
    cwd: JAVA,
    env: { MAVEN_OPTS: SHORT_LIVED.join(" ") },
  });
}

function javaCommand(): readonly string[] {
  const libraries = readFileSync(join(JAVA_PROGRAM, "classpath"), "utf8").trim();
  return ["java", ...SHORT_LIVED, "-cp", [join(JAVA_PROGRAM, "classes"), libraries].join(delimiter), "Main"];
}

/** What must be so in every language and after every kind of restart. */
function expectScenario(said: Summary): void {
  expect(said).toMatchObject({ registered: 250, same_lease: true, pages: 7, paged: 250, lease_outlived: true, left: 0 });
  expect(said.resolved).toMatch(/^svc-07 at 10\.\d\.0\.1:8080$/);
  for (const [refused, field] of [
    [said.bad_entry, "entries[0].key.namespace"],
    [said.bad_token, "page_token"],
    [said.bad_cursor, "cursor"],
  ] as const) {
    expect({ ...refused, code: plainCode(refused.code) }).toEqual({
      code: "invalidargument",
      reason: "INVALID_ARGUMENT",
      fields: [field],
      retry_ms: -1,
    });
  }
  // A snapshot of several messages; then, on the same stream, three changes.
  expect(said.first).toMatchObject({ began_with_snapshot: true, held: 250, told: { snapshots: 1, creates: 251, updates: 1, removes: 1 } });
  expect(said.first.told.messages).toBeGreaterThan(5);
  // Cut off by the client: exactly what changed meanwhile.
  expect(said.short).toMatchObject({ began_with_snapshot: false, held: 250, told: { snapshots: 0, creates: 1, updates: 1, removes: 1 } });
  expect(said.foreign_short).toMatchObject({ began_with_snapshot: true, held: 250, told: { snapshots: 1, creates: 250, removes: 0 } });
  for (const part of [said.first, said.short, said.portable, said.foreign_short]) expect(part.told.digests).toBeGreaterThan(0);
  expect(plainCode(said.cut.code)).toBe("unavailable");
  expect(said.renewals).toBeGreaterThanOrEqual(2);
  expect(said.unregistered).toBe(250);
}

function expectAfterRestart(said: Summary, restart: Restart): void {
  if (restart.isEphemeral) {
    // The node lost everything, lease included; what its old self said is answered with a snapshot, not with silence.
    expect(said).toMatchObject({ re_registered: true, farewell: false, node_id: "interop" });
    expect(said.portable).toMatchObject({ began_with_snapshot: true, held: 250, told: { snapshots: 1, creates: 250 } });
    return;
  }
  expect(said.re_registered).toBe(false);
  const isStopped = restart.signal === "SIGTERM";
  expect(said.farewell).toBe(isStopped);
  expect(said.cut.reason).toBe(isStopped ? "DRAINING" : "");
  expect(said.cut.retry_ms >= 0).toBe(isStopped);
  // What changed while the client was away, and nothing of what the last bookmark covered. Never a snapshot.
  expect(said.portable).toMatchObject({
    began_with_snapshot: false,
    held: 250,
    told: { snapshots: 0, creates: 1, updates: 1, removes: 1 },
  });
}

function testScenarios(command: () => readonly string[], tiers: Tiers): void {
  for (const name of ["kill -9", "SIGTERM", "kill -9 without a disk"] as const) {
    const tags = tiers[name] === undefined ? [] : [tiers[name]];
    test.concurrent(`registers, watches and resumes over ${name}, and its digest is the server's`, { tags }, async () => {
      const said = await runClient(command(), RESTARTS[name]);
      expectScenario(said);
      expectAfterRestart(said, RESTARTS[name]);
    });
  }
}

// The scenarios of all languages run at a time, because each waits for most of its time.
describe.skipIf(!isGo).concurrent(`go${isGo ? "" : " (skipped: needs go, protoc-gen-go and protoc-gen-go-grpc)"}`, () => {
  beforeAll(buildGo);

  test("ShardOf returns the shards of the published keys", async () => {
    const keys = join(ROOT, "docs/examples/shards/keys.json");
    expect(await run(GO_PROGRAM, ["-shard-keys", keys])).toMatchObject({ code: 0, output: "" });
  });

  testScenarios(() => [GO_PROGRAM], { "kill -9": undefined, SIGTERM: "night", "kill -9 without a disk": "night" });

  test("a channel calls a service by its Waymark name while every Waymark server is killed, hears of a change when one is back, and leaves one that is frozen", {
    tags: ["path"],
  }, async () => {
    expect(await runNames(GO_NAMES)).toEqual({
      first: { failed: 0, answered: 2 },
      cutOff: { failed: 0, answered: 2 },
      back: { failed: 0, answered: 1 },
      frozen: { failed: 0, answered: 2 },
    });
  });

  const { UNREGISTERED, EXPIRED } = DiscoveryDelta_Cause;
  const unfit = /no entry of interop.names\/web can receive traffic/;
  test.each([
    { name: "its entry expired", protocol: "grpc", after: [removal(EXPIRED)], fails: /^$/ },
    { name: "a snapshot lacks its entry", protocol: "grpc", after: emptySnapshot(), fails: /^$/ },
    { name: "its entry says no protocol", protocol: "", after: [], fails: /^$/ },
    { name: "its entry was unregistered", protocol: "grpc", after: [removal(UNREGISTERED)], fails: unfit },
    { name: "a policy hides its entry", protocol: "grpc", after: emptySnapshot("interop.names"), fails: unfit },
    { name: "its entry has a port of another protocol", protocol: "http", after: [], fails: unfit },
  ])("a channel for a name calls its last addresses only while they may be true: $name", async ({ protocol, after, fails }) => {
    expect(await runNamesAfter(GO_NAMES, { protocol, after }, fails)).toMatch(fails);
  });
});

const isPython = python !== undefined;
describe.skipIf(!isPython).concurrent(`python${isPython ? "" : " (skipped: needs python3 with grpcio)"}`, () => {
  beforeAll(generatePython);

  testScenarios(() => PYTHON_COMMAND, {
    "kill -9": undefined,
    SIGTERM: "night",
    "kill -9 without a disk": "night",
  });
});

describe.skipIf(!isJava).concurrent(`java${isJava ? "" : " (skipped: needs java, javac and mvn)"}`, () => {
  beforeAll(buildJava);

  testScenarios(javaCommand, { "kill -9": "path", SIGTERM: "night", "kill -9 without a disk": "night" });
});

const areThere = isGo && isPython && isEtcdThere();
describe.skipIf(!areThere).concurrent(`go and python${areThere ? "" : " (skipped: needs go, python3 with grpcio, and etcd)"}`, () => {
  beforeAll(async () => {
    await Promise.all([buildGo(), generatePython()]);
  });

  test("programs move to another node when their node is drained, each entry in one update, and they stay registered there", async () => {
    const { changes, nodeIds, registered, done } = await drainUnder([[GO_PROGRAM], PYTHON_COMMAND]);
    const ids = ["interop.go", "interop.python"].flatMap((namespace) => Array.from({ length: 5 }, (_, i) => `${namespace}/web-${i}`));
    expect(changes).toEqual(ids.map((id) => `UPDATE ${id}`));
    expect(nodeIds).toEqual(["n1"]);
    expect(registered).toEqual([
      [0, 1],
      [0, 1],
    ]);
    // Their own watches continue on the other node without a snapshot, and agree with its digests.
    const told = { creates: 5, updates: 5, removes: 0, snapshots: 1 };
    expect(done).toMatchObject([
      { told, held: 5 },
      { told, held: 5 },
    ]);
  });
});
