/** TLS and mutual TLS of a whole node, from the files its settings name, on both listeners; new certificates without a restart. */
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Leaf, TestAuthority } from "../fakes/certificates.ts";
import { FabricAuthority } from "../fakes/fabric-transport.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess, waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

let folder = "";
let authority: TestAuthority;
let stranger: TestAuthority;
let client: Leaf;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "waymark-tls-"));
  authority = new TestAuthority(folder, "authority");
  stranger = new TestAuthority(folder, "stranger");
  client = authority.issue("client");
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A node whose settings file names the certificates. */
async function startTls(leaf: Pick<Leaf, "certFile" | "keyFile">, isMutual: boolean, more: object = {}): Promise<NodeProcess> {
  const tls = {
    cert_file: leaf.certFile,
    key_file: leaf.keyFile,
    ...(isMutual && { ca_file: authority.caFile, require_client_cert: true }),
  };
  const config = join(folder, `node-${isMutual}.json`);
  writeFileSync(config, JSON.stringify({ tls, ...more }));
  return startNodeProcess(["--ephemeral", "--config", config]);
}

/** Status of `/readyz`, or the error's words. */
function readyz(node: NodeProcess, options: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer }): Promise<string> {
  return new Promise((resolve) => {
    const call = request(`https://${node.listeners["http"]}/readyz`, { ...options, agent: false, timeout: 60_000 }, (reply) => {
      reply.resume();
      resolve(String(reply.statusCode));
    });
    call.on("error", (error) => resolve(`refused: ${error.message}`));
    call.end();
  });
}

/** `discovery status` through the gRPC listener: its exit code. */
async function status(node: NodeProcess, flags: readonly string[]): Promise<number> {
  return (await waymarkProcess(["discovery", "status", "--server", node.grpc, "--timeout", "30s", ...flags])).exit;
}

const trust = (): readonly string[] => ["--ca", authority.caFile];
const mine = (leaf: Leaf): readonly string[] => ["--cert", leaf.certFile, "--key", leaf.keyFile];

test("a node with TLS uses TLS schemes in its entry, whose URLs are used in redirects, and in its ready line", async () => {
  const { certFile, keyFile } = authority.issue("server");
  await using node = await startTls({ certFile, keyFile }, false);
  const map = await waymarkProcess(["discovery", "cluster-map", "-o", "json", "--server", node.grpc, ...trust()]);
  const { nodes } = JSON.parse(map.stdout) as {
    nodes: { targets: { name: string; protocol: string }[]; node: { advertisedUrls: string[] } }[];
  };
  const protocols = nodes[0]?.targets.filter(({ name }) => name !== "dns").map(({ name, protocol }) => `${name} ${protocol}`);
  expect(protocols).toEqual(["grpc grpcs", "http https"]);
  const { grpc, http } = node.listeners;
  expect(nodes[0]?.node.advertisedUrls).toEqual([`grpcs://${grpc}`, `https://${http}`]);
  const config = join(folder, "node-false.json");
  await using plain = new CommandProcess(["serve", "--ephemeral", "--config", config, ...onFreePorts([])]);
  expect(await plain.errorLine(/is ready: /)).toMatch(
    / is ready: gRPC grpcs:\/\/127\.0\.0\.1:\d+, HTTP https:\/\/127\.0\.0\.1:\d+, DNS 127/,
  );
});

test("--tls trusts the system's authorities, an address warns of nothing, and who speaks otherwise is told so", {
  tags: ["night"],
}, async () => {
  await using node = await startTls(authority.issue("server"), false);
  const ask = async (wrapper: readonly string[], flags: readonly string[], server = node.grpc) => {
    const { exit, stderr } = await new CommandProcess(
      ["discovery", "status", "--quiet", "--timeout", "30s", "--server", server, ...flags],
      "",
      wrapper,
    ).finished();
    return { exit, stderr };
  };
  // What OpenSSL takes for the system's.
  const system = ["env", `SSL_CERT_FILE=${authority.caFile}`, `SSL_CERT_DIR=${folder}`];
  expect(await ask(system, ["--tls"])).toEqual({ exit: 0, stderr: "" });
  expect(await ask([...system, "WAYMARK_TLS=1"], [])).toEqual({ exit: 0, stderr: "" });
  expect(await ask([], trust())).toEqual({ exit: 0, stderr: "" });
  const distrusted = await ask([], ["--tls"]);
  expect(distrusted.exit).toBe(3);
  expect(distrusted.stderr).toContain("the CA that issued the certificate is not trusted: pass the CA file with --ca");
  expect(distrusted.stderr).not.toContain("check that the server is running");
  const { caFile } = stranger;
  const wrong = await ask([], ["--ca", caFile]);
  expect(wrong.exit).toBe(3);
  expect(wrong.stderr).toContain(`error: ${caFile} does not contain the CA that signed the certificate of ${node.grpc}\n`);
  expect(wrong.stderr).not.toMatch(/--use-system-ca|--ca$/m);
  const plain = await ask([], []);
  expect(plain.exit).toBe(3);
  expect(plain.stderr).toContain("the server requires TLS: pass its CA file with --ca");
  await using open = await startNodeProcess(["--ephemeral"]);
  const late = await ask([], trust(), open.grpc);
  expect(late.exit).toBe(3);
  expect(late.stderr).toContain("the server does not speak TLS: omit --tls and --ca");
  // It runs, so nobody is asked whether it does.
  expect(late.stderr).not.toContain("check that the server is running");
});

test("wrong files of certificates are told by their flags, before a server is asked", async () => {
  const words = join(folder, "words.pem");
  writeFileSync(words, "SECRET");
  const [one, other] = [authority.issue("one"), authority.issue("other")];
  for (const { flags, says } of [
    { flags: ["--ca", words], says: `--ca ${words}: contains no certificate` },
    { flags: [...trust(), "--cert", words, "--key", one.keyFile], says: `--cert ${words}: contains no certificate` },
    { flags: [...trust(), "--cert", one.certFile, "--key", words], says: `--key ${words}: does not contain an unencrypted private key` },
    {
      flags: [...trust(), "--cert", one.certFile, "--key", other.keyFile],
      says: `--key ${other.keyFile}: does not match --cert ${one.certFile}`,
    },
  ]) {
    const { exit, stderr } = await waymarkProcess(["discovery", "status", "--server", "127.0.0.1:1", ...flags]);
    expect(exit).toBe(2);
    expect(stderr).toContain(says);
    expect(stderr).not.toMatch(/SECRET|routines/);
  }
});

test("TLS: both listeners answer who trusts the authority, and nobody in plain text or who trusts another", {
  tags: ["night"],
}, async () => {
  await using node = await startTls(authority.issue("server"), false);
  expect(await status(node, trust())).toBe(0);
  expect(await status(node, ["--ca", stranger.caFile])).toBe(3);
  expect(await status(node, [])).toBe(3);
  expect(await readyz(node, { ca: authority.ca })).toBe("200");
  expect(await readyz(node, { ca: stranger.ca })).toMatch(/^refused: .*(certificate|signature)/);
  await expect(fetch(`http://${node.listeners["http"]}/readyz`)).rejects.toThrow("fetch failed");
});

test("mutual TLS: both listeners answer who shows a certificate of the authority, and nobody else", async () => {
  await using node = await startTls(authority.issue("server"), true);
  const other = stranger.issue("other");
  expect(await status(node, [...trust(), ...mine(client)])).toBe(0);
  expect(await status(node, trust())).toBe(3);
  expect(await status(node, [...trust(), ...mine(other)])).toBe(3);
  expect(await readyz(node, { ca: authority.ca, cert: client.cert, key: client.key })).toBe("200");
  expect(await readyz(node, { ca: authority.ca })).toMatch(/^refused/);
  expect(await readyz(node, { ca: authority.ca, cert: other.cert, key: other.key })).toMatch(/^refused/);
});

/** Common name of the certificate a listener shows. */
function shownName(address: string): Promise<string> {
  const at = address.lastIndexOf(":");
  return new Promise((resolve, reject) => {
    const socket = connectTls(
      { host: address.slice(0, at), port: Number(address.slice(at + 1)), ca: authority.ca, ALPNProtocols: ["h2"] },
      () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      },
    );
    socket.on("error", reject);
  });
}

/** Serial number of the certificate that a fabric listener shows. */
function serialOf(address = ""): Promise<string> {
  const at = address.lastIndexOf(":");
  return new Promise((resolve, reject) => {
    const to = { host: address.slice(0, at), port: Number(address.slice(at + 1)), rejectUnauthorized: false, ALPNProtocols: ["h2"] };
    const socket = connectTls(to, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

async function names(node: NodeProcess): Promise<readonly string[]> {
  return Promise.all([node.grpc, node.listeners["http"] ?? ""].map(shownName));
}

async function untilNames(node: NodeProcess, want: string): Promise<void> {
  await until(`the listeners show ${want}`, async () => ((await names(node)).every((name) => name === want) ? [] : [node.command.stderr]));
}

const WRITTEN = new Date("2026-01-01T00:00:00Z");

test("SIGHUP: new certificates are shown by all listeners; files that do not fit leave the old ones", async () => {
  const [first, second] = [authority.issue("first"), authority.issue("second")];
  const live = { certFile: join(folder, "live.pem"), keyFile: join(folder, "live.key") };
  // In place, and with the time they had: the look at the files' times every ten seconds takes them for unchanged.
  const install = (cert: Buffer, key: Buffer): void => {
    writeFileSync(live.certFile, cert);
    writeFileSync(live.keyFile, key);
    for (const path of [live.certFile, live.keyFile]) utimesSync(path, WRITTEN, WRITTEN);
  };
  install(first.cert, first.key);
  const ofFabric = new FabricAuthority();
  const files = { cert_file: join(folder, "fabric.pem"), key_file: join(folder, "fabric.key"), ca_file: join(folder, "fabric-ca.pem") };
  const installFabric = ({ cert, key, clientCa }: ReturnType<FabricAuthority["issue"]>): X509Certificate => {
    for (const [path, bytes] of [
      [files.cert_file, cert],
      [files.key_file, key],
      [files.ca_file, clientCa],
    ] as const) {
      writeFileSync(path, bytes, { mode: 0o600 });
      utimesSync(path, WRITTEN, WRITTEN);
    }
    return new X509Certificate(cert);
  };
  const before = installFabric(ofFabric.issue("n1"));
  await using node = await startTls(live, false, { node: { id: "n1", cluster_id: "c1" }, fabric: files });
  expect(await names(node)).toEqual(["first", "first"]);
  expect(await serialOf(node.listeners["fabric"])).toBe(before.serialNumber);
  install(second.cert, second.key);
  const after = installFabric(ofFabric.issue("n1"));
  node.command.kill("SIGHUP");
  await untilNames(node, "second");
  await until("the fabric shows its new certificate", async () => (await serialOf(node.listeners["fabric"])) === after.serialNumber);
  install(first.cert, second.key);
  node.command.kill("SIGHUP");
  await node.command.errorLine(/certificate reload failed/);
  expect(await names(node)).toEqual(["second", "second"]);
  expect(await status(node, trust())).toBe(0);
});

test("a certificate file that is not there is told with its setting, with exit code 2", async () => {
  const config = join(folder, "absent.json");
  writeFileSync(config, JSON.stringify({ tls: { cert_file: join(folder, "absent.pem"), key_file: client.keyFile } }));
  const { exit, stderr } = await waymarkProcess(["serve", ...onFreePorts(["--ephemeral", "--config", config])]);
  expect(exit).toBe(2);
  expect(stderr).toMatch(/tls\.cert_file: .*absent\.pem/);
  expect(stderr).not.toMatch(/\n\s+at /);
});
