import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import type { ServeRequest } from "../../src/cli/environment.ts";
import { connect } from "../../src/client/connect.io.ts";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

/** Answers every DNS question with SERVFAIL. */
class FailingGateway implements AsyncDisposable {
  readonly #socket = createSocket("udp4");

  static async open(): Promise<FailingGateway> {
    const gateway = new FailingGateway();
    gateway.#socket.on("message", (question, { port, address }) => {
      const answer = Buffer.from(question);
      // A response with the code 2.
      answer.writeUInt16BE(0x80_02, 2);
      gateway.#socket.send(answer, port, address);
    });
    gateway.#socket.bind(0, "127.0.0.1");
    await once(gateway.#socket, "listening");
    return gateway;
  }

  get address(): string {
    return `127.0.0.1:${this.#socket.address().port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

const REGISTER = ["register", "--namespace", "svc.market", "--name", "web", "--instance", "web-1"] as const;

/** Paths of all verbs, as the help of each group lists them. */
async function pathsBelow(group: string): Promise<readonly string[]> {
  const { stdout } = await waymark([...group.split(" "), "--help"].filter((word) => word !== ""));
  const listed = /^Commands:\n((?: .*\n)+)/m.exec(stdout)?.[1];
  if (listed === undefined) return [group];
  const words = [...listed.matchAll(/^ {2}(\S+)/gm)].map(([, word = ""]) => word);
  const below = await Promise.all(words.map((word) => pathsBelow(group === "" ? word : `${group} ${word}`)));
  return below.flat();
}

const PATHS = await pathsBelow("");

// A verb whose help was not reviewed fails the next test in CI, where nothing is written.
test("the groups of the help lead to every verb whose help was reviewed", () => {
  const reviewed = readdirSync(new URL("../golden/cli/help/", import.meta.url)).map((file) => file.replace(/\.txt$/, ""));
  expect(PATHS.map((path) => path.replaceAll(" ", "-"))).toEqual(expect.arrayContaining(reviewed));
});

test.each(PATHS)("help of %s is as reviewed", async (path) => {
  const { exit, stdout } = await waymark([...path.split(" "), "--help"]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/help/${path.replaceAll(" ", "-")}.txt`);
});

test.each(PATHS)("%s has an example that starts with it", async (path) => {
  const { stdout } = await waymark([...path.split(" "), "--help"]);
  const commands = [...(stdout.split("\nExamples:\n")[1] ?? "").matchAll(/^ {2}(\S.*)$/gm)].map(([, command = ""]) => command);
  expect(commands.length).toBeGreaterThan(0);
  for (const command of commands) expect(`${command} `).toContain(`${path} `);
});

test.each([
  { argv: ["regster"], says: "register" },
  { argv: ["discovery", "qery"], says: "query" },
  { argv: ["discovery", "query", "--namespce", "a"], says: "--namespace" },
  { argv: ["regster"], says: "run waymark --help for usage" },
  { argv: ["discovery", "qery"], says: "run waymark discovery --help for usage" },
  { argv: ["discovery", "query", "--namespce", "a"], says: "run waymark discovery query --help for usage" },
  { argv: ["discovery", "query", "--scope", "galaxy"], says: "local, zone, region, global" },
  { argv: ["discovery", "query", "--kind", "servce"], says: "service, function" },
  { argv: ["register", "--namespace", "a"], says: "missing: --name <name>, --instance <id>" },
  { argv: ["unregister", "--name", "a"], says: "missing: --namespace, --instance" },
  { argv: ["discovery", "resolve"], says: "missing: <name>, --namespace <namespace>" },
  { argv: ["discovery", "resolve", "nope", "-n", "x"], says: "error: unknown option '-n'" },
  { argv: ["discovery", "resolve", "-n", "x"], says: "error: unknown option '-n'" },
  { argv: ["discovery", "resolve", "nope", "--namespce", "x"], says: "(Did you mean --namespace?)" },
  { argv: ["register", "--name", "a", "--instnce", "b"], says: "(Did you mean --instance?)" },
  { argv: ["discovery", "resolve", "--", "-n"], says: "missing: --namespace <namespace>" },
  { argv: ["help", "discovery", "qery"], says: "Did you mean query?" },
  { argv: ["mesh", "peers", "lst"], says: "Did you mean list?" },
  { argv: ["dns", "resolve", "web.waymark", "SVR"], says: "Did you mean SRV?" },
  { argv: ["discovery", "query", "--health", "healty"], says: "Did you mean healthy?" },
  { argv: [...REGISTER, "--target", "::1"], says: "expected host[:port]" },
  { argv: [...REGISTER, "--target", "h:99999"], says: "--target h:99999: expected a port from 1 to 65535" },
  {
    argv: [...REGISTER, "--target", "h:0/http"],
    says: "expected a port from 1 to 65535, or no colon for a target without a port",
  },
  { argv: [...REGISTER, "--target", "h:1,weight=x"], says: "weight=0" },
  { argv: [...REGISTER, "--check", "http,interval=10"], says: "--check http,interval=10: interval=10 is not a duration from 1s to 1h" },
  { argv: [...REGISTER, "--metadata", "k"], says: "expected key=value" },
  { argv: [...REGISTER, "--metadata", "k=1", "--metadata", "k=2"], says: "is set twice" },
  { argv: [...REGISTER, "--ttl", "soon"], says: "expected a duration" },
  { argv: ["query"], says: "(Did you mean waymark discovery query?)" },
  { argv: ["quer"], says: "(Did you mean waymark discovery query?)" },
  {
    argv: ["watch"],
    says: "(Did you mean one of waymark discovery watch, waymark audit watch, waymark mesh peers watch, waymark mesh shards watch?)",
  },
  { argv: ["policy", "apply"], says: "namespace policy" },
  { argv: ["discovery", "register"], says: "(Did you mean one of waymark register, waymark dns register?)" },
  { argv: ["audit", "access"], says: "(Did you mean waymark discovery access-audit?)" },
  { argv: ["import", "consul"], says: "error: unknown command 'consul'\nrun waymark import --help" },
  { argv: ["begin"], says: "error: unknown command 'begin'\nrun waymark --help" },
  { argv: ["help", "resolve"], says: "discovery resolve" },
  { argv: ["dns", "resolve", ""], says: 'invalid DNS name ""' },
  { argv: ["dns", "resolve", "x..y"], says: 'invalid DNS name "x..y"' },
  { argv: ["dns", "resolve", `${"a".repeat(70)}.waymark`], says: ": expected labels of 1 to 63 characters" },
  { argv: ["dns", "resolve", "abcdefg.".repeat(33)], says: "at most 253" },
  {
    argv: ["dns", "resolve", "a b", "--dns-server", "127.0.0.1:9"],
    says: 'invalid DNS name "a b": allowed characters are letters, digits, - _ * / and dots',
  },
  { argv: ["discovery", "resolve", "f", "--namespace", "a", "--policy", "hash"], says: "--policy hash requires --hash-key" },
  { argv: ["discovery", "resolve", "f", "--namespace", "a", "--policy", "hash", "--hash-key", ""], says: "--hash-key is empty" },
  { argv: ["discovery", "resolve", "f", "--namespace", "a", "--hash-key", "k"], says: "--hash-key requires --policy hash" },
  {
    argv: ["discovery", "resolve", "f", "--namespace", "a", "--version-range", "^1"],
    says: "--version-range requires --kind function, because only functions have versions",
  },
  { argv: ["apply"], says: "--file" },
  { argv: ["apply", "-f", "missing.yaml"], says: "cannot read --file missing.yaml" },
  { argv: ["discovery", "query", "--server", "host:port"], says: "expected host:port" },
  { argv: ["discovery", "query", "--timeout", "1"], says: "expected a duration" },
  { argv: ["discovery", "query", "--timeout", "0s"], says: "invalid --timeout 0s: expected a duration from 1ms to 24 days" },
  {
    argv: ["dns", "register", "web", "--namespace", "a.b"],
    says: "missing 2 flags: --port, --target (or --alias-of, for an alias)\n",
  },
  { argv: ["discovery", "query", "--cert", "c.pem"], says: "--cert and --key (or WAYMARK_CERT and WAYMARK_KEY) must be set together" },
  { argv: ["discovery", "query", "--namespace", "a", "--prefix", "b"], says: "cannot be combined" },
  {
    argv: ["discovery", "query", "--version-range", "1.2.3.4"],
    says: 'invalid --version-range 1.2.3.4: "1.2.3.4" is not a range such as ^1.2.0',
  },
  { argv: ["discovery", "watch", "--version-range", "one"], says: "invalid --version-range " },
  { argv: ["discovery", "resolve", "f", "--namespace", "a", "--version-range", "x.y.z.w"], says: "invalid --version-range " },
  { argv: ["discovery", "query", "-o", "xml"], says: "table, wide, json, yaml" },
  { argv: ["completion", "csh"], says: "bash, zsh, fish" },
  { argv: ["config", "validate", "node.yaml"], says: ".toml or .json" },
  { argv: ["serve", "--grpc-port", "70000"], says: "65535" },
  { argv: ["serve", "extra"], says: "too many arguments" },
  { argv: ["discovery", "query", "--namespace", ""], says: "error: --namespace is empty; give it a value, or leave it out\n" },
  { argv: ["discovery", "watch", "--prefix="], says: "error: --prefix is empty; give it a value, or leave it out\n" },
  { argv: ["audit", "list", "--namespace", ""], says: "error: --namespace is empty; give it a value, or leave it out\n" },
  { argv: ["mesh", "peers", "list", "--cluster-id", ""], says: "error: --cluster-id is empty; give it a value, or leave it out\n" },
  { argv: ["discovery", "query", "--tag", "a", "--tag", ""], says: "error: --tag is empty; give it a value, or leave it out\n" },
  { argv: ["serve", "--config", ""], says: "error: --config is empty; give it a value, or leave it out\n" },
  { argv: ["serve", "--join", ""], says: "error: --join is empty; give it a value, or leave it out\n" },
  { argv: ["discovery", "query", "--namespace", "a", "--namespace", "b"], says: "error: --namespace is given twice; give it once\n" },
  { argv: ["apply", "-f", "a.yaml", "--file", "b.yaml"], says: "error: --file is given twice; give it once\n" },
  { argv: ["--token", "a-secret", "discovery", "status", "--token", "b-secret"], says: "error: --token is given twice; give it once\n" },
  { argv: ["discovery", "query", "-o", "json", "-o", "yaml"], says: "error: --output is given twice; give it once\n" },
  {
    argv: ["serve", "--join", "a:1", "--join", "b:1"],
    says: "error: --join is given more than once; give it once, with its values separated by commas\n",
  },
  { argv: ["serve", "--config", "a.toml", "--config", "b.toml"], says: "error: --config is given twice; give it once\n" },
  { argv: ["config", "validate", "good.toml", "--config", "bad.toml"], says: "two settings files given: good.toml and --config bad.toml" },
  { argv: [...REGISTER, "--target", "h:1,weight=1,weight=2"], says: "--target h:1,weight=1,weight=2: weight is set twice" },
  { argv: [], says: "Usage" },
])("$argv is bad usage and says $says", async ({ argv, says }) => {
  const { exit, stdout, stderr } = await waymark(argv);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
  expect(stderr).not.toContain("secret");
  expect(stdout).toBe("");
});

test("of a setting with one value that serve is given twice the last one counts", async () => {
  const zones: string[] = [];
  const serve = async ({ effective }: ServeRequest) => void zones.push(effective.settings.node.zone);
  expect(await waymark(["serve", "--zone", "a", "--zone", "b"], { serve })).toMatchObject({ exit: 0 });
  expect(zones).toEqual(["b"]);
});

test("a flag without a value may be given twice", async () => {
  const fake = await startFake();
  expect(await waymark(["discovery", "query", "--quiet", "--quiet", "--server", fake.address])).toMatchObject({ exit: 0 });
});

test("an empty page token is that of the first page", async () => {
  const fake = await startFake();
  expect(await waymark(["discovery", "query", "--page-token", "", "--server", fake.address])).toMatchObject({ exit: 0 });
});

test("help of a command is what its --help says, of a group and of all too", async () => {
  for (const path of [["discovery", "query"], ["namespace", "policy"], ["serve"], []]) {
    const [asked, flagged] = [await waymark(["help", ...path]), await waymark([...path, "--help"])];
    expect(asked).toEqual(flagged);
    expect(asked).toMatchObject({ exit: 0, stderr: "" });
    expect(asked.stdout).toContain(`Usage: waymark ${path.join(" ")}`.trimEnd());
  }
  expect((await waymark(["help", "bench"])).stderr).toContain("waymark bench is planned for a later version");
});

test.each([
  { what: "a setting that is wrong", toml: "[dns]\nmin_ttl = 5\n" },
  { what: "a node that would be open to others", toml: '[listen]\nhost = "0.0.0.0"\n' },
])("$what has one exit code for validate and serve", async ({ toml }) => {
  const files = { "bad.toml": toml };
  expect((await waymark(["config", "validate", "bad.toml"], { files })).exit).toBe(2);
  const served: unknown[] = [];
  const serve = async (request: unknown) => void served.push(request);
  expect((await waymark(["serve", "--config", "bad.toml"], { files, serve })).exit).toBe(2);
  expect(served).toEqual([]);
});

test.each([
  { code: status.INVALID_ARGUMENT, reason: "INVALID_ARGUMENT", exit: 1 },
  { code: status.PERMISSION_DENIED, reason: "DISCOVERY_ACCESS_DENIED", exit: 4 },
  { code: status.UNAUTHENTICATED, reason: "UNAUTHENTICATED", exit: 4 },
  { code: status.NOT_FOUND, reason: "NOT_FOUND", exit: 5 },
  { code: status.RESOURCE_EXHAUSTED, reason: "QUOTA_EXCEEDED", exit: 1 },
  { code: status.UNAVAILABLE, reason: "STORE_UNAVAILABLE", exit: 1 },
  { code: status.UNIMPLEMENTED, reason: "UNIMPLEMENTED", exit: 1 },
])("a request refused with $reason ends with exit code $exit", async ({ code, reason, exit }) => {
  const fake = await startFake();
  fake.refusals.set("resolve", { code, message: `${reason.toLowerCase()}: no`, reason });
  const ran = await waymark(["discovery", "resolve", "web", "--namespace", "a", "--server", fake.address]);
  expect(ran.exit).toBe(exit);
  expect(ran.stderr).toContain(`error: ${reason.toLowerCase()}: no`);
  expect(ran.stdout).toBe("");
});

test("resolve of an unknown name says how to see the names that there are", async () => {
  const fake = await startFake();
  fake.refusals.set("resolve", { code: status.NOT_FOUND, message: "not_found: no entry named web in svc.market", reason: "NOT_FOUND" });
  const resolve = ["discovery", "resolve", "web", "--namespace", "svc.market", "--server", fake.address];
  expect(await waymark(resolve)).toEqual({
    exit: 5,
    stdout: "",
    stderr:
      "error: not_found: no entry named web in svc.market\n" +
      "error: run waymark discovery query --namespace svc.market to list the entries that you may see\n",
  });
});

test("a node that is not ready is told with the command that shows what it waits for", async () => {
  const fake = await startFake();
  fake.refusals.set("register", { code: status.UNAVAILABLE, message: "not_ready: no clocks yet", reason: "NOT_READY" });
  expect(await waymark([...REGISTER, "--server", fake.address])).toMatchObject({
    exit: 1,
    stderr:
      "error: not_ready: no clocks yet\n" +
      "error: GET /readyz on the HTTP port of the server shows what it is waiting for; retry later, or use another server\n",
  });
});

test.each([
  { message: "quota_exceeded: full", wants: "error: quota_exceeded: full\nerror: try again in 29 s\n" },
  { message: "discovery_rate_limited: over; try again in 29 s", wants: "error: discovery_rate_limited: over; try again in 29 s\n" },
])("the delay of a refusal is told once: $message", async ({ message, wants }) => {
  const fake = await startFake();
  fake.refusals.set("register", { code: status.RESOURCE_EXHAUSTED, message, reason: "QUOTA_EXCEEDED", retryMs: 28_576 });
  expect(await waymark([...REGISTER, "--server", fake.address])).toMatchObject({ exit: 1, stderr: wants });
});

test("a DNS gateway that fails to answer is told in words, with the command that shows why", async () => {
  await using gateway = await FailingGateway.open();
  const ran = await waymark(["dns", "resolve", "web.svc.market.waymark", "--dns-server", gateway.address]);
  expect(ran).toMatchObject({ exit: 1, stdout: "" });
  expect(ran.stderr).toBe(
    `error: query for web.svc.market.waymark failed: the DNS gateway at ${gateway.address} cannot answer (SERVFAIL)\n` +
      "error: the node may not be ready: run waymark discovery lag to see the reason\n",
  );
});

test("a server that is not there is exit code 3, and the message names it", async () => {
  const fake = await startFake();
  const { address } = fake;
  fake.stop();
  const { exit, stderr } = await waymark(["discovery", "query", "--server", address, "--timeout", "2s"]);
  expect(exit).toBe(3);
  expect(stderr).toContain(`cannot reach ${address}`);
  expect(stderr).toContain("--server");
});

test("every field the server refused is listed", async () => {
  const fake = await startFake();
  const violations = [
    { field: "entries[0].tags[0]", description: "too long" },
    { field: "entries[0].targets[0].port", description: "0 is not a port" },
  ];
  fake.refusals.set("register", {
    code: status.INVALID_ARGUMENT,
    message: "invalid_argument: two",
    reason: "INVALID_ARGUMENT",
    violations,
  });
  const { stderr } = await waymark([...REGISTER, "--server", fake.address]);
  for (const { field, description } of violations) expect(stderr).toContain(`${field}: ${description}`);
});

test("a server that is none is named as it was given, by variable or by flag", async () => {
  const env = { WAYMARK_SERVER: "nope:xx" };
  expect(await waymark(["discovery", "status"], { env })).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining("error: WAYMARK_SERVER nope:xx: expected host:port") as string,
  });
  const { stderr } = await waymark(["discovery", "status", "--server", "other:xx"], { env });
  expect(stderr).toContain("error: --server other:xx: expected host:port");
  expect((await waymark(["discovery", "status"], { env: { WAYMARK_SERVER: "a:1," } })).stderr).toContain(
    'WAYMARK_SERVER "": expected host:port',
  );
});

test.each([
  { argv: ["discovery", "status", "--ca", "none.pem"], env: {}, says: "cannot read --ca none.pem: " },
  { argv: ["discovery", "status"], env: { WAYMARK_CA: "none.pem" }, says: "cannot read WAYMARK_CA none.pem: " },
  { argv: ["discovery", "status"], env: { WAYMARK_CA: "no.pem" }, says: "WAYMARK_CA no.pem: contains no certificate" },
  { argv: ["serve", "--config", "none.toml"], env: {}, says: "cannot read --config none.toml: " },
  { argv: ["config", "validate", "--config", "none.toml"], env: {}, says: "cannot read --config none.toml: " },
  { argv: ["config", "validate", "none.toml"], env: {}, says: "cannot read none.toml: " },
])("a file that cannot be used is told with what names it: $argv $env", async ({ argv, env, says }) => {
  const { exit, stderr } = await waymark(argv, { env, files: { "no.pem": "words" } });
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});

test("the next server is asked when the first is away", async () => {
  const gone = await startFake();
  const fake = await startFake();
  gone.stop();
  const { exit, stdout } = await waymark(["discovery", "status", "--server", `${gone.address},${fake.address}`, "-o", "json"]);
  expect(exit).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ version: "9.9.9" });
});

test("token and server come from the environment, and a flag wins", async () => {
  const fake = await startFake();
  const env = { WAYMARK_SERVER: fake.address, WAYMARK_TOKEN: "from-env" };
  await waymark(["discovery", "status"], { env });
  await waymark(["discovery", "status", "--token", "from-flag"], { env });
  expect(fake.callsOf("serverInfo").map(({ authorization }) => authorization)).toEqual(["Bearer from-env", "Bearer from-flag"]);
});

test.each([
  { argv: ["discovery", "status", "--server", ""], says: "--server is empty" },
  { argv: ["discovery", "query", "--limit", "0"], says: "invalid --limit 0: expected a whole number from 1 to 2147483647" },
  { argv: ["discovery", "watch", "--count", "0"], says: "invalid --count 0: expected a whole number from 1 to" },
  { argv: ["audit", "watch", "--count", "0"], says: "invalid --count 0: expected a whole number from 1 to" },
  { argv: ["namespace", "policy", "apply", "policy.yaml", "--expect", "0"], says: "invalid --expect 0: expected a whole number from 1 to" },
  {
    argv: ["namespace", "policy", "apply", "policy.yaml", "--percent", "0"],
    says: "invalid --percent 0: expected a whole number from 1 to 100",
  },
  { argv: ["namespace", "policy", "rollback", "--expect", "0"], says: "invalid --expect 0: expected a whole number from 1 to" },
  { argv: ["namespace", "policy", "rollback", "--to", "0"], says: "invalid --to 0: expected a whole number from 1 to" },
  { argv: ["namespace", "policy", "export", "--number", "0"], says: "invalid --number 0: expected a whole number from 1 to" },
  { argv: ["unregister"], says: "--namespace, --name and --instance, or --lease" },
])("$argv is bad usage, and says what is missing", async ({ argv, says }) => {
  const { exit, stderr } = await waymark(argv);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});

test.each(["yes", "TRUE", "on", "2", " 1"])(
  "WAYMARK_TLS=%j is bad usage: nobody is asked in plain text who was to be asked over TLS",
  async (value) => {
    const fake = await startFake();
    const env = { WAYMARK_SERVER: fake.address, WAYMARK_TLS: value };
    const { exit, stderr } = await waymark(["discovery", "status"], { env });
    expect([exit, fake.callsOf("serverInfo")]).toEqual([2, []]);
    expect(stderr).toContain(`invalid WAYMARK_TLS ${JSON.stringify(value)}: expected 1 or true for TLS, or 0 or false for plaintext`);
  },
);

test.each(["", "0", "false"])("WAYMARK_TLS=%j is no TLS", async (value) => {
  const fake = await startFake();
  const env = { WAYMARK_SERVER: fake.address, WAYMARK_TLS: value };
  expect((await waymark(["discovery", "status"], { env })).exit).toBe(0);
});

test.each(["SECRET\r", "SECRET\n", "SÉCRET", "SECRET SECRET"])(
  "the token %j is bad usage, and nobody is told what is in it",
  async (token) => {
    for (const { named, argv, env } of [
      { named: "WAYMARK_TOKEN", argv: [], env: { WAYMARK_TOKEN: token } },
      { named: "--token", argv: ["--token", token], env: {} },
    ]) {
      const { exit, stdout, stderr } = await waymark(["discovery", "query", ...argv], { env });
      expect({ exit, stdout }).toEqual({ exit: 2, stdout: "" });
      expect(stderr).toContain(`${named} is not a valid token`);
      expect(stderr).not.toContain("CRET");
    }
    expect(() => connect({ servers: ["127.0.0.1:1"], token })).toThrow(/^connect: invalid token: it must have/);
  },
);

test("register sends what the flags say, under a static lease", async () => {
  const fake = await startFake();
  const target = [
    "--target",
    "[::1]:8080/http,name=main,weight=5,priority=1",
    "--target",
    "db.internal:5432",
    "--target",
    "[fd00::1],name=pod",
  ];
  const checks = ["--check", "http:/healthz,target=main,interval=10s", "--check", "tcp"];
  const rest = [...checks, "--tag", "a", "--tag", "b", "--metadata", "k=v=w", "--scope", "region", "--health", "degraded", "-o", "json"];
  const { exit, stdout } = await waymark([...REGISTER, ...target, ...rest, "--server", fake.address]);
  expect(exit).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ leaseId: "lease-1" });
  expect(fake.callsOf("register")[0]?.request).toMatchObject({
    staticLease: true,
    entries: [
      {
        key: { kind: 1, namespace: "svc.market", name: "web", instanceId: "web-1" },
        scope: 3,
        health: 2,
        tags: ["a", "b"],
        metadata: { k: "v=w" },
        checks: [
          { target: "main", interval: { seconds: 10n }, probe: { case: "http", value: { path: "/healthz" } } },
          { target: "", probe: { case: "tcp" } },
        ],
        targets: [
          { name: "main", host: "::1", port: 8080, protocol: "http", weight: 5, priority: 1 },
          { host: "db.internal", port: 5432, protocol: "" },
          { name: "pod", host: "fd00::1", port: 0, protocol: "" },
        ],
      },
    ],
  });
});

test("register --ttl asks for a lease that expires", async () => {
  const fake = await startFake();
  await waymark([...REGISTER, "--ttl", "90s", "--server", fake.address]);
  expect(fake.callsOf("register")[0]?.request).toMatchObject({ staticLease: false, ttl: { seconds: 90n } });
});

test("register --keep unregisters its lease when interrupted", async () => {
  const fake = await startFake();
  const interrupt = new AbortController();
  const onStdout = (): void => interrupt.abort();
  const { exit } = await waymark([...REGISTER, "--keep", "--server", fake.address], { interrupt: interrupt.signal, onStdout });
  expect(exit).toBe(0);
  expect(fake.callsOf("unregister")[0]?.request).toMatchObject({ leaseId: "lease-1" });
});

test.each([3_000, 90_000, 3_600_000])("register --keep renews a lease of %i ms at each third of it", async (ttlMs) => {
  const fake = await startFake();
  const interrupt = new AbortController();
  const waits: number[] = [];
  const later = (act: () => void, delayMs: number): (() => void) => {
    waits.push(delayMs);
    queueMicrotask(fake.callsOf("renew").length === 2 ? () => interrupt.abort() : act);
    return () => {};
  };
  const flags = ["--keep", "--ttl", `${ttlMs}ms`, "--server", fake.address];
  expect((await waymark([...REGISTER, ...flags], { interrupt: interrupt.signal, later })).exit).toBe(0);
  // The first is that of every command, after which it says that it goes on.
  expect(waits.slice(1)).toEqual(Array(3).fill(ttlMs / 3));
});

test.each([
  { check: "ttl,interval=6s", waitMs: 2000, reports: [{ key: { name: "web", instanceId: "web-1" } }] },
  { check: "ttl", waitMs: 10_000 / 3, reports: [{ key: { name: "web" } }] },
  { check: "ttl,interval=2m", waitMs: 10_000, reports: [{ key: { name: "web" } }] },
  { check: "tcp,interval=6s", waitMs: 10_000, reports: [] },
])("register --keep --check $check renews after $waitMs ms", async ({ check, waitMs, reports }) => {
  const fake = await startFake();
  const interrupt = new AbortController();
  const waits: number[] = [];
  const later = (act: () => void, delayMs: number): (() => void) => {
    waits.push(delayMs);
    queueMicrotask(fake.callsOf("renew").length === 1 ? () => interrupt.abort() : act);
    return () => {};
  };
  const flags = ["--keep", "--check", check, "--server", fake.address];
  expect((await waymark([...REGISTER, ...flags], { interrupt: interrupt.signal, later })).exit).toBe(0);
  expect(waits[1]).toBe(waitMs);
  expect(fake.callsOf("renew")[0]?.request).toMatchObject({ reports });
});

test("unregister of what is not there is exit code 5", async () => {
  const fake = await startFake();
  await waymark([...REGISTER, "--server", fake.address]);
  const unregister = ["unregister", "--namespace", "svc.market", "--name", "web", "--instance", "web-1", "--server", fake.address];
  expect((await waymark(unregister)).exit).toBe(0);
  expect((await waymark(unregister)).exit).toBe(5);
});

test("a query reads all pages into one JSON document, with lists even when empty", async () => {
  const fake = await startFake();
  const empty = await waymark(["discovery", "query", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(empty.stdout)).toMatchObject({ items: [], explanation: [] });
  for (let n = 0; n < 3; n++)
    await waymark(["register", "--namespace", "a", "--name", "n", "--instance", `i${n}`, "--server", fake.address]);
  const one = await waymark(["discovery", "query", "--limit", "2", "--server", fake.address]);
  expect(one.stdout.trimEnd().split("\n")).toHaveLength(3);
  expect(one.stderr).toContain("--page-token 2");
  const all = await waymark(["discovery", "query", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(all.stdout)).toHaveProperty("items.length", 3);
});

test.each([
  { argv: [], stderr: "nothing found\n" },
  { argv: ["-o", "wide"], stderr: "nothing found\n" },
  { argv: ["--explain"], stderr: "nothing found\n" },
  { argv: ["--quiet"], stderr: "" },
  { argv: ["-o", "json"], stderr: "" },
  { argv: ["-o", "yaml"], stderr: "" },
])("a query that nothing matches says so on stderr to people only, and is no failure: $argv", async ({ argv, stderr }) => {
  const fake = await startFake();
  const ran = await waymark(["discovery", "query", "wbe", "--namespace", "svc.market", ...argv, "--server", fake.address]);
  expect(ran).toMatchObject({ exit: 0, stderr });
  expect(ran.stdout === "").toBe(!["json", "yaml"].includes(argv[1] ?? ""));
});

test("a query answers as many as --limit asks for, though a page has at most 1000", async () => {
  const fake = await startFake();
  await waymark(["register", "--namespace", "a", "--name", "n", "--instance", "i", "--server", fake.address]);
  const [only] = fake.entries.values();
  if (only === undefined) throw new Error("nothing is registered");
  for (let n = 0; n < 2500; n++) fake.entries.set(`i${n}`, only);
  const { stdout } = await waymark(["discovery", "query", "--limit", "2200", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(stdout)).toMatchObject({ nextPageToken: "2200" });
  expect(JSON.parse(stdout)).toHaveProperty("items.length", 2200);
});

test.each(["table", "wide", "json", "yaml"])("the %s format is as reviewed", async (format) => {
  const fake = await startFake();
  await waymark([...REGISTER, "--target", "10.0.0.1:8080/http", "--tag", "blue", "--health", "critical", "--server", fake.address]);
  const { stdout } = await waymark(["discovery", "query", "-o", format, "--server", fake.address]);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/query.${format}.txt`);
});

test("text of strangers reaches no terminal as a command", async () => {
  const fake = await startFake();
  fake.refusals.set("resolve", {
    code: status.INVALID_ARGUMENT,
    message: "invalid_argument: \u001b]0;owned\u0007",
    reason: "INVALID_ARGUMENT",
  });
  const { stderr } = await waymark(["discovery", "resolve", "x", "--namespace", "a", "--server", fake.address]);
  expect(stderr).toContain("\\x1b]0;owned\\x07");
});

test.each(["json", "yaml", "table"])(
  "-o %s escapes control characters in untrusted text, and programs read the original text",
  async (format) => {
    const fake = await startFake();
    const odd = "a\u007f\u0085\u009b\u200f\u202e\u2066z";
    const metadata = ["--metadata", `k=${odd}`, "--metadata", `m=a\u001b[31m\n${odd}`];
    await waymark([...REGISTER, ...metadata, "--server", fake.address]);
    const { stdout } = await waymark(["discovery", "query", "-o", format, "--server", fake.address]);
    expect(stdout).not.toMatch(/(?!\n)\p{Cc}|[\u200e\u200f\u202a-\u202e\u2066-\u2069]/u);
    if (format === "table") return;
    const read = format === "json" ? (JSON.parse(stdout) as unknown) : (parseYaml(stdout) as unknown);
    expect(read).toMatchObject({ items: [{ metadata: { k: odd, m: `a\u001b[31m\n${odd}` } }] });
  },
);

test.each([
  { name: "a terminal", isTty: true, argv: [], env: {}, hasColor: true },
  { name: "no terminal", isTty: false, argv: [], env: {}, hasColor: false },
  { name: "--no-color", isTty: true, argv: ["--no-color"], env: {}, hasColor: false },
  { name: "NO_COLOR", isTty: true, argv: [], env: { NO_COLOR: "1" }, hasColor: false },
])("$name: colour $hasColor", async ({ isTty, argv, env, hasColor }) => {
  const fake = await startFake();
  await waymark([...REGISTER, "--server", fake.address]);
  const { exit, stdout } = await waymark(["discovery", "query", "--server", fake.address, ...argv], { isTty, env });
  expect(exit).toBe(0);
  expect(stdout.includes("\u001b[")).toBe(hasColor);
});

test.each([
  { argv: ["discovery", "cluster-map"], has: "nodes" },
  { argv: ["discovery", "peers"], has: "peers" },
  { argv: ["discovery", "status", "svc.market"], has: "policy_disabled" },
  { argv: ["discovery", "resolve", "web", "--namespace", "svc.market"], has: "web-1" },
])("$argv prints one JSON document and nothing else", async ({ argv, has }) => {
  const fake = await startFake();
  await waymark([...REGISTER, "--server", fake.address]);
  const { exit, stdout } = await waymark([...argv, "-o", "json", "--server", fake.address]);
  expect(exit).toBe(0);
  expect(JSON.stringify(JSON.parse(stdout))).toContain(has);
});

test("serve hands over settings with their origins and prints one ready line", async () => {
  const { exit, stdout } = await waymark(["serve", "--ephemeral", "--grpc-port", "0", "--node-id", "n1", "-o", "json"], {
    env: { WAYMARK_NODE__REGION: "eu" },
    serve: async ({ effective, onReady }) => {
      expect(effective.settings.listen.grpcPort).toBe(0);
      expect(effective.settings.persistence.ephemeral).toBe(true);
      expect(effective.origins.get("node.region")).toBe("environment WAYMARK_NODE__REGION");
      onReady({ nodeId: "n1", listeners: { grpc: "127.0.0.1:5" }, fault: "" });
    },
  });
  expect(exit).toBe(0);
  expect(stdout).toBe('{"event":"ready","node_id":"n1","listeners":{"grpc":"127.0.0.1:5"}}\n');
});

test.each([
  { argv: [], says: "node n1 is ready: gRPC h:1, HTTP h:2, DNS h:3, DNS over TLS h:4, fabric h:5\n" },
  {
    argv: ["--mode", "resolver", "--upstream", "127.0.0.1:1"],
    says: "resolver n1 is ready: gRPC h:1, HTTP h:2, DNS h:3, DNS over TLS h:4, fabric h:5\n",
  },
])("whoever starts a node is told every address that it listens on, also ports that the system chose: $argv", async ({ argv, says }) => {
  const listeners = { fabric: "h:5", dot: "h:4", dns: "h:3", http: "h:2", grpc: "h:1" };
  const serve = async ({ onReady }: ServeRequest) => onReady({ nodeId: "n1", listeners, fault: "" });
  expect((await waymark(["serve", ...argv], { serve })).stderr).toContain(says);
});

test.each([
  { argv: [], out: "", err: "node n1 is not ready (the clock is off): gRPC 127.0.0.1:5, HTTP 127.0.0.1:6\n" },
  {
    argv: ["-o", "json"],
    out: '{"event":"not_ready","fault":"the clock is off","node_id":"n1","listeners":{"grpc":"127.0.0.1:5","http":"127.0.0.1:6"}}\n',
    err: "",
  },
])("a node whose start is over and that is not ready says so, and not that it is: $argv", async ({ argv, out, err }) => {
  const listeners = { grpc: "127.0.0.1:5", http: "127.0.0.1:6" };
  const serve = async ({ onReady }: ServeRequest) => onReady({ nodeId: "n1", listeners, fault: "the clock is off" });
  expect(await waymark(["serve", ...argv], { serve })).toMatchObject({ stdout: out, stderr: err });
});

test.each([
  { argv: ["mesh", "capacity"], says: "error: waymark mesh capacity is planned for a later version" },
  { argv: ["discovery", "sumary"], says: "error: unknown command 'sumary'" },
  { argv: ["serve", "--joyn"], says: "error: unknown option '--joyn'" },
])("what the contract has for later is refused as that, what it has not as unknown: $argv", async ({ argv, says }) => {
  const { exit, stderr } = await waymark(argv);
  expect(exit).toBe(2);
  expect(stderr).toContain(says);
});

const RESOLVER = ["--mode", "resolver", "--upstream", "127.0.0.1:17420,[::1]:17420"];

test.each([
  { argv: ["--on-stop", "keep"], exit: 0, says: "" },
  { argv: ["--on-stop", "leave"], exit: 0, says: "" },
  { argv: ["--on-stop", "perhaps"], exit: 2, says: "Allowed choices are leave, keep" },
  { argv: ["--join", "10.0.0.1:17421,[fd00::1]:17421"], exit: 0, says: "" },
  { argv: ["--join", "10.0.0.1"], exit: 2, says: '"10.0.0.1" is not an address such as "10.0.0.1:17421"' },
  { argv: ["--fabric-port", "0"], exit: 0, says: "" },
  { argv: ["--fabric-port", "70000"], exit: 2, says: "70000 is more than the maximum of 65535" },
  { argv: ["--mode", "cache"], exit: 2, says: "Allowed choices are node, resolver" },
  { argv: ["--mode", "resolver"], exit: 2, says: "resolver.upstreams: is empty; a resolver needs at least one server to read from" },
  { argv: ["--mode", "resolver", "--upstream", ""], exit: 2, says: "error: --upstream is empty" },
  { argv: ["--mode", "resolver", "--upstream", "a"], exit: 2, says: '"a" is not an address such as "10.0.0.1:17420"' },
  { argv: ["--upstream", "localhost:1"], exit: 2, says: "resolver.upstreams: is only for a resolver" },
  { argv: [...RESOLVER, "--namespaces", "svc.market,svc.data"], exit: 0, says: "" },
  { argv: [...RESOLVER, "--namespaces", "Svc"], exit: 2, says: '"Svc" is not a namespace, or * for all' },
  { argv: [...RESOLVER, "--demo"], exit: 2, says: "--demo requires a node: a resolver rejects registrations" },
  { argv: [...RESOLVER, "--join", "a:1"], exit: 2, says: "fabric.seeds: cannot be set for a resolver: a resolver has no fabric" },
])("serve takes what scripts for a fleet give a node: $argv ends with $exit", async ({ argv, exit, says }) => {
  const ran = await waymark(["serve", ...argv]);
  expect(ran.exit).toBe(exit);
  expect(ran.stderr).toContain(says);
});

test("serve --demo loads the demo catalog before the node is ready", async () => {
  const fake = await startFake();
  const { exit } = await waymark(["serve", "--demo", "--quiet"], { serve: async ({ beforeReady }) => beforeReady?.(fake.address) });
  expect(exit).toBe(0);
  expect(new Set([...fake.entries.values()].map(({ key }) => key?.name)).size).toBe(12);
});

test("config show tells where each value came from; config validate reports every problem", async () => {
  const files = { "node.toml": '[node]\nregion = "eu"\n', "bad.toml": '[node]\nregin = "eu"\n[dns]\nmin_ttl = 5\n' };
  const shown = await waymark(["config", "show", "--config", "node.toml", "-o", "json"], { files, env: { WAYMARK_NODE__ZONE: "a" } });
  expect(JSON.parse(shown.stdout)).toMatchObject({
    "node.region": { value: "eu", origin: "file node.toml" },
    "node.zone": { value: "a", origin: "environment WAYMARK_NODE__ZONE" },
    "listen.grpc_port": { value: "17420", origin: "default" },
  });
  expect((await waymark(["config", "validate", "node.toml"], { files })).exit).toBe(0);
  expect((await waymark(["config", "validate", "--config", "node.toml"], { files })).exit).toBe(0);
  expect(await waymark(["config", "validate"], { files })).toMatchObject({
    exit: 2,
    stderr: expect.stringContaining(
      "error: missing settings file: run, for example, waymark config validate node.toml; waymark config show also checks the environment\n",
    ) as string,
  });
  const bad = await waymark(["config", "validate", "bad.toml"], { files });
  expect(bad.exit).toBe(2);
  expect(bad.stderr).toContain("did you mean node.region?");
  expect(bad.stderr).toContain("dns.min_ttl");
  expect(bad.stderr).toContain(
    "fix these values first: contradictory settings and referenced files are checked only after all values are valid\n",
  );
});

test.each([
  { argv: ["dns", "node-encode", "n1"], exit: 0, stdout: "l-n1\n" },
  { argv: ["dns", "node-decode", "l-n1"], exit: 0, stdout: "n1\n" },
  { argv: ["dns", "node-encode", "bad name"], exit: 1, stdout: "" },
  { argv: ["dns", "node-decode", "zz"], exit: 1, stdout: "" },
  { argv: ["version", "-o", "json"], exit: 0, stdout: `{\n  "version": "0.0.0-test",\n  "node": "${process.versions.node}"\n}\n` },
])("$argv prints $stdout", async ({ argv, exit, stdout }) => {
  expect(await waymark(argv)).toMatchObject({ exit, stdout });
});

test("a command that takes more than a second says on stderr that it goes on, unless it is to be quiet", async () => {
  const fake = await startFake();
  const argv = ["discovery", "status", "-o", "json", "--server", fake.address];
  const later = (act: () => void, delayMs: number) => {
    expect(delayMs).toBe(1_000);
    act();
    return () => {};
  };
  expect(await waymark(argv, { later })).toMatchObject({ exit: 0, stderr: "still running discovery status …\n" });
  expect(await waymark([...argv, "--quiet"], { later })).toMatchObject({ exit: 0, stderr: "" });
});

test.each([
  { name: "was answered", server: undefined },
  { name: "failed", server: "127.0.0.1:1" },
])("of a command that $name nobody is told that it goes on", async ({ server }) => {
  const fake = await startFake();
  let isCancelled = false;
  const later = () => () => {
    isCancelled = true;
  };
  await waymark(["discovery", "status", "--server", server ?? fake.address], { later });
  expect(isCancelled).toBe(true);
});

test("a request without an answer ends at --timeout with exit code 1: the server was reached", async () => {
  const fake = await startFake();
  fake.held.set("serverInfo", new Promise(() => {}));
  await waymark(["discovery", "peers", "--server", fake.address]);
  const { exit, stderr } = await waymark(["discovery", "status", "--timeout", "1s", "--server", fake.address]);
  expect(exit).toBe(1);
  // In words of ours, without those of the library about how far its own machinery had come.
  expect(stderr).toMatch(/^error: DEADLINE_EXCEEDED: no answer within [\d.]+m?s$/m);
});
