/** Zones of a real node are taken by AXFR with TSIG. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { dig, recordsIn } from "../fakes/dig.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

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

async function start(more = ""): Promise<NodeProcess> {
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
