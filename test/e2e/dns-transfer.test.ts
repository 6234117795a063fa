/** Zones of a real node are taken by AXFR with TSIG. */
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { serverFiles } from "../fakes/certificate.ts";
import { dig, recordsIn } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-dns-transfer-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
function file(ending: string, text: string): string {
  const path = join(folder, `${files++}.${ending}`);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

const SECRETS = { all: "c2VjcmV0LW9mLWEtc2Vjb25kYXJ5LTE=", red: "c2VjcmV0LW9mLWEtc2Vjb25kYXJ5LTI=" } as const;
const POLICY = JSON.stringify({ version: "v1", default_allow: true, rules: [{ namespace: "svc.red", visibility_tenants: ["red"] }] });

const isKdigThere = spawnSync("kdig", ["-V"], { stdio: "ignore" }).error === undefined;

async function start(more = "", flags: readonly string[] = []): Promise<NodeProcess> {
  const config = `
${more}
[[dns.transfer_keys]]
name = "all.example"
secret_file = "${file("key", SECRETS.all)}"
[[dns.transfer_keys]]
name = "red.example."
algorithm = "hmac-sha512"
secret_file = "${file("key", `${SECRETS.red}\n`)}"
tenant = "red"
`;
  const node = await startNodeProcess(["--ephemeral", "--policy", file("json", POLICY), "--config", file("toml", config)]);
  for (const namespace of ["svc.all", "svc.red"])
    await node.run([
      ...flags,
      "register",
      "--namespace",
      namespace,
      "--name",
      "web",
      "--target",
      "10.0.0.1:80",
      "--instance",
      "1",
      "--alias",
      `www.${namespace}`,
    ]);
  return node;
}

const zoneOf = async (node: NodeProcess, ...words: readonly string[]) => dig(node.listeners["dns"] ?? "", "+tcp", ...words);

test.each([{ processes: 0 }, { processes: 1 }])(
  "a key gets the zone that its view sees, with $processes DNS processes",
  async ({ processes }) => {
    await using node = await start(`[dns]\nprocesses = ${processes}`);
    const all = await zoneOf(node, "-y", `hmac-sha256:all.example:${SECRETS.all}`, "waymark", "AXFR");
    const red = await zoneOf(node, "-y", `hmac-sha512:red.example:${SECRETS.red}`, "waymark", "AXFR");
    expect([all, red].join()).not.toMatch(/failed|expected/i);
    const records = recordsIn(all);
    expect([records[0], records.at(-2)].join("\n")).toMatch(/^SOA .*\nSOA |^SOA /);
    for (const zone of [all, red]) {
      expect(zone).toMatch(/^web\.svc\.all\.waymark\.\s+\d+\s+IN\s+A\s+10\.0\.0\.1$/m);
      expect(zone).toMatch(/^www\.svc\.all\.waymark\.\s+\d+\s+IN\s+CNAME\s+web\.svc\.all\.waymark\.$/m);
      expect(zone).toMatch(/^_svc\._tcp\.web\.svc\.all\.waymark\.\s+\d+\s+IN\s+SRV\s/m);
      expect(zone).toMatch(/^10-0-0-1\.addr\.node\.waymark\.\s+\d+\s+IN\s+A\s+10\.0\.0\.1$/m);
      expect(zone).toMatch(/^waymark\.\s+\d+\s+IN\s+NS\s/m);
    }
    expect(all).not.toContain("svc.red");
    expect(red).toMatch(/^web\.svc\.red\.waymark\.\s+\d+\s+IN\s+A\s+10\.0\.0\.1$/m);
  },
);

test.skipIf(!isKdigThere)("kdig takes the zone over TCP and over TLS", async () => {
  const { certFile, keyFile, caFile } = serverFiles();
  await using node = await start(`[tls]\ncert_file = "${certFile}"\nkey_file = "${keyFile}"\n[dns]\ntls_port = 0`, ["--ca", caFile]);
  const kdig = async (listener: string, ...words: readonly string[]) => {
    const [host = "", port = ""] = (node.listeners[listener] ?? "").split(":");
    const { stdout } = await promisify(execFile)("kdig", [
      `@${host}`,
      "-p",
      port,
      "-y",
      `hmac-sha256:all.example:${SECRETS.all}`,
      ...words,
      "waymark",
      "AXFR",
    ]);
    return stdout;
  };
  for (const zone of [await kdig("dns"), await kdig("dot", "+tls")]) {
    expect(zone).toMatch(/^web\.svc\.all\.waymark\.\s+\d+\s+IN?\s*A\s+10\.0\.0\.1$/m);
    expect(zone).not.toMatch(/;; (?:WARNING|ERROR)/);
  }
});

test("a resolver sends no zone", async () => {
  await using node = await start();
  const key = file("key", SECRETS.all);
  const config = file("toml", `[[dns.transfer_keys]]\nname = "all.example"\nsecret_file = "${key}"`);
  await using resolver = await startNodeProcess([
    "--mode",
    "resolver",
    "--upstream",
    node.listeners["grpc"] ?? "",
    "--ephemeral",
    "--config",
    config,
  ]);
  const words = ["-y", `hmac-sha256:all.example:${SECRETS.all}`, "waymark", "AXFR"];
  // Before it is ready it fails (SERVFAIL).
  await until("the resolver answers", async () => (await zoneOf(resolver, "web.svc.all.waymark")).includes("status: NOERROR"));
  expect(await zoneOf(resolver, ...words)).toContain("Transfer failed.");
});

test("without a key, with another secret or over UDP nobody gets a zone", async () => {
  await using node = await start();
  const key = `hmac-sha256:all.example:${SECRETS.all}`;
  expect(await zoneOf(node, "waymark", "AXFR")).toContain("Transfer failed.");
  expect(await zoneOf(node, "-y", `hmac-sha256:all.example:${SECRETS.red}`, "waymark", "SOA")).toMatch(/status: NOTAUTH[\s\S]*BADSIG/);
  expect(await zoneOf(node, "-y", `hmac-sha256:none.example:${SECRETS.all}`, "waymark", "SOA")).toMatch(/status: NOTAUTH[\s\S]*BADKEY/);
  expect(await zoneOf(node, "-y", key, "other.example", "AXFR")).toContain("Transfer failed.");
  expect(await dig(node.listeners["dns"] ?? "", "-y", key, "waymark", "IXFR=1")).toContain("Transfer failed.");
  // A signed question gets a signed answer, from the view of the key.
  expect(await dig(node.listeners["dns"] ?? "", "-y", key, "web.svc.all.waymark", "A")).toMatch(
    /status: NOERROR[\s\S]*TSIG PSEUDOSECTION[\s\S]*NOERROR/,
  );
});
