/** Zones of a real node are taken by AXFR with TSIG. */
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serverFiles } from "../fakes/certificate.ts";
import { dig, recordsIn } from "../fakes/dig.ts";
import { queryBytes } from "../fakes/dns-text.ts";
import { newKey } from "../fakes/dnssec.ts";
import { some } from "../fakes/effort.ts";
import { filesAbout } from "../fakes/given-files.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { signedBy } from "../fakes/tsig.ts";
import { until } from "../fakes/until.ts";

const file = filesAbout("dns-transfer");

const SECRETS = { all: "c2VjcmV0LW9mLWEtc2Vjb25kYXJ5LTE=", red: "c2VjcmV0LW9mLWEtc2Vjb25kYXJ5LTI=" } as const;
const POLICY = JSON.stringify({ version: "v1", default_allow: true, rules: [{ namespace: "svc.red", visibility_tenants: ["red"] }] });

const isKdigThere = spawnSync("kdig", ["-V"], { stdio: "ignore" }).error === undefined;

interface Started extends NodeProcess {
  /** Of the key `all.example`. */
  readonly secretFile: string;
}

async function start(more = "", flags: readonly string[] = []): Promise<Started> {
  const secretFile = file("key", SECRETS.all);
  const config = `
${more}
[[dns.transfer_keys]]
name = "all.example"
secret_file = "${secretFile}"
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
  return Object.assign(node, { secretFile });
}

const zoneOf = async (node: NodeProcess, ...words: readonly string[]) => dig(node.listeners["dns"] ?? "", "+tcp", ...words);

describe.each(some([{ processes: 0 }, { processes: 1 }]))("with $processes DNS processes", ({ processes }) => {
  let node: Started;
  const pem = newKey().secret.export({ format: "pem", type: "pkcs8" }).toString();
  beforeAll(async () => {
    node = await start(`[dns]\nprocesses = ${processes}\ndnssec_key_file = "${file("pem", pem)}"`);
  });
  afterAll(() => node[Symbol.asyncDispose]());
  const signing = (secret: string) => ["-y", `hmac-sha256:all.example:${secret}`];
  const web = "web.svc.all.waymark";

  test("a key gets the zone that its view sees, and the audit says so", async () => {
    const all = await zoneOf(node, ...signing(SECRETS.all), "waymark", "AXFR");
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
    await until("the audit says who took them", async () => (await transfersIn(node)).length === 2);
    const told = { source: "127.0.0.1", outcome: "AUDIT_OUTCOME_ALLOWED" };
    const acts = await transfersIn(node);
    expect(acts).toMatchObject([
      { principal: "tsig:red.example", tenant: "red", ...told },
      { principal: "tsig:all.example", ...told },
    ]);
    for (const { detail } of acts) expect(detail).toMatch(/^zone waymark, serial \d+, done: [1-9]\d* records, [1-9]\d+ bytes$/);
  });

  test("where answers have signatures (DNSSEC), the zone has neither them nor the keys, also with DO", async () => {
    const key = signing(SECRETS.all);
    const zone = await zoneOf(node, "+dnssec", ...key, "waymark", "AXFR");
    expect(recordsIn(zone).length).toBeGreaterThan(10);
    const typesIn = (printed: string) => new Set(recordsIn(printed).map((record) => record.split(" ")[0] ?? ""));
    const types = typesIn(zone);
    expect(["RRSIG", "NSEC", "DNSKEY", "CDS", "CDNSKEY"].filter((type) => types.has(type))).toEqual([]);
    const answer = await zoneOf(node, "+dnssec", ...key, web, "A");
    expect(answer).toMatch(/IN\s+RRSIG\s+A 13 [\s\S]*TSIG PSEUDOSECTION/);
    expect(await zoneOf(node, "+dnssec", ...key, "waymark", "DNSKEY")).toMatch(/IN\s+DNSKEY\s+257 3 13 [\s\S]*RRSIG\s+DNSKEY 13/);
    expect(await zoneOf(node, "+dnssec", ...key, `none.${web}`, "A")).toMatch(/IN\s+NSEC\s[\s\S]*RRSIG\s+NSEC 13/);
  });

  test("a reload takes another secret, and keeps what it has where a file is broken", async () => {
    const other = "b3RoZXItc2VjcmV0LW9mLWEtc2Vjb25kYXJ5";
    const codeOf = async (secret: string) => /status: (\w+)/.exec(await zoneOf(node, ...signing(secret), "waymark", "SOA"))?.[1];
    writeFileSync(node.secretFile, "short");
    process.kill(node.command.pid, "SIGHUP");
    await node.command.errorLine(/transfer key reload failed, keeping the current keys/);
    expect([await codeOf(SECRETS.all), await codeOf(other)]).toEqual(["NOERROR", "NOTAUTH"]);
    writeFileSync(node.secretFile, other);
    process.kill(node.command.pid, "SIGHUP");
    await until("the other counts", async () => (await codeOf(other)) === "NOERROR");
    expect(await codeOf(SECRETS.all)).toBe("NOTAUTH");
    expect(recordsIn(await zoneOf(node, ...signing(other), "waymark", "AXFR")).length).toBeGreaterThan(10);
  });
});

/** What the audit says of transfers, the newest first. */
async function transfersIn(node: NodeProcess): Promise<readonly { readonly detail: string }[]> {
  const { stdout } = await node.run(["audit", "list", "--kind", "access", "-o", "json"]);
  const { records } = JSON.parse(stdout) as { readonly records: readonly { readonly action: string; readonly detail: string }[] };
  return records.filter(({ action }) => action === "transfer");
}

const certificates = serverFiles();
let overTls: Promise<NodeProcess> | undefined;
afterAll(async () => void (await overTls)?.[Symbol.asyncDispose]());
/** A node with TLS, for all tests that need one. */
function withTls(): Promise<NodeProcess> {
  const { certFile, keyFile, caFile } = certificates;
  overTls ??= start(`[tls]\nmin_version = "1.2"\ncert_file = "${certFile}"\nkey_file = "${keyFile}"\n[dns]\ntls_port = 0`, [
    "--ca",
    caFile,
  ]);
  return overTls;
}

test.skipIf(!isKdigThere)("kdig takes the zone over TCP and over TLS", { tags: ["night"] }, async () => {
  const node = await withTls();
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

/** The first message of the answer to a signed question, over TLS. */
async function firstOverTls(node: NodeProcess, query: Buffer, client: ConnectionOptions): Promise<Buffer> {
  const [host = "", port = ""] = (node.listeners["dot"] ?? "").split(":");
  const socket = connectTls({ host, port: Number(port), servername: "localhost", ca: certificates.authority.cert, ...client });
  try {
    await once(socket, "secureConnect", { signal: AbortSignal.timeout(20_000) });
    const secret = Buffer.from(SECRETS.all, "base64");
    const { bytes } = signedBy({ key: "all.example", secret, atSeconds: Math.floor(Date.now() / 1000) }, query);
    socket.write(Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes]));
    let got = Buffer.alloc(0);
    while (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) {
      const [chunk] = (await once(socket, "data", { signal: AbortSignal.timeout(20_000) })) as [Buffer];
      got = Buffer.concat([got, chunk]);
    }
    return got.subarray(2, 2 + got.readUInt16BE(0));
  } finally {
    socket.destroy();
  }
}

test("over TLS a zone is sent by TLS 1.3 to who chose the protocol `dot`, padded for who asks so; questions are answered without both", async () => {
  const node = await withTls();
  // With an OPT record that has padding.
  const asked = (type: "AXFR" | "A", name: string) => {
    const query = Buffer.concat([queryBytes({ name, type }), Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 12, 0, 0)]);
    query.writeUInt16BE(1, 10);
    return query;
  };
  const dot = { ALPNProtocols: ["dot"] };
  const told = async (type: "AXFR" | "A", name: string, client: ConnectionOptions) => {
    const bytes = await firstOverTls(node, asked(type, name), client);
    return [bytes.length % 468, (bytes[3] ?? 0) & 15, bytes.readUInt16BE(6) > 0];
  };
  expect({
    right: await told("AXFR", "waymark", dot),
    noProtocol: await told("AXFR", "waymark", {}),
    oldVersion: await told("AXFR", "waymark", { ...dot, maxVersion: "TLSv1.2" }),
    question: await told("A", "web.svc.all.waymark", {}),
  }).toEqual({ right: [0, 0, true], noProtocol: [0, 5, false], oldVersion: [0, 5, false], question: [0, 0, true] });
});

test("a resolver sends no zone", { tags: ["night"] }, async () => {
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
  // Who asks for what is newer gets the whole zone, or the SOA where nothing is.
  const newer = async (serial: number) => recordsIn(await dig(node.listeners["dns"] ?? "", "-y", key, "waymark", `IXFR=${serial}`));
  const serial = async () => Number(/\sSOA\s+\S+ \S+ (\d+)/.exec(await zoneOf(node, "-y", key, "waymark", "SOA"))?.[1]);
  expect((await newer((await serial()) - 1)).length).toBeGreaterThan(10);
  // What was registered just now may still become a version.
  await until("the SOA is all that is told", async () => {
    const types = (await newer(await serial())).map((record) => record.split(" ")[0]);
    return types.join() === "SOA,TSIG";
  });
  // A signed question gets a signed answer, from the view of the key.
  expect(await dig(node.listeners["dns"] ?? "", "-y", key, "web.svc.all.waymark", "A")).toMatch(
    /status: NOERROR[\s\S]*TSIG PSEUDOSECTION[\s\S]*NOERROR/,
  );
});
