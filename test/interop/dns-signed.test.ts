/**
 * Validators that others wrote ask real nodes whose zones are signed: delv, and Unbound with aggressive use of denials.
 *
 * @module-tag path
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { run } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess, withClient } from "../fakes/node-process.ts";
import { startUnbound } from "../fakes/unbound.ts";
import { until } from "../fakes/until.ts";
import { areDnsClientsThere } from "./needs.ts";

const hasClients = await areDnsClientsThere();
const WEB = "web.svc.shop.waymark";
const portOf = (node: NodeProcess): string => (node.listeners["dns"] ?? "").split(":").at(-1) ?? "";

function newPem(): string {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
}

/** A node with keys and a service, in a folder of its own. */
async function withSigned(use: (node: NodeProcess, folder: string, keyFile: string) => Promise<void>, toml = ""): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-signed-"));
  try {
    const keyFile = join(folder, "zone.pem");
    writeFileSync(keyFile, newPem());
    const config = join(folder, "config.toml");
    writeFileSync(config, `[dns]\ndnssec_key_file = "${keyFile}"\n${toml}`);
    await using node = await startNodeProcess(["--ephemeral", "--config", config]);
    await withClient(node, async (client) => {
      const targets = ["10.0.0.1", "10.0.0.2"].map((host) => ({ host, port: 8080, protocol: "https" }));
      await using registered = await client.register([
        { key: { kind: EntryKind.SERVICE, namespace: "svc.shop", name: "web", instanceId: "1" }, targets, aliases: ["store.svc.shop"] },
      ]);
      expect(registered).toBeDefined();
      await use(node, folder, keyFile);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function printed(command: string, ...args: readonly string[]): Promise<string> {
  return (await run(command, args)).output;
}

const dig = (port: string, ...words: readonly string[]) => printed("dig", "@127.0.0.1", "-p", port, "+tries=3", ...words);

/** The key that signs, as a trust anchor of Unbound. */
async function anchorOf(port: string): Promise<string> {
  return (await dig(port, "waymark", "CDS", "+short")).trim();
}

/** Unbound that trusts this key for the zone. */
function startValidator(gateway: string, ds: string): ReturnType<typeof startUnbound> {
  return startUnbound(gateway, ["aggressive-nsec: yes", `trust-anchor: "waymark. DS ${ds}"`, "val-log-level: 2"]);
}

describe.skipIf(!hasClients)(`validators${hasClients ? "" : " (skipped: needs kdig, drill, delv and unbound)"}`, () => {
  test("delv validates answers and denials of every kind with the key of the zone", async () => {
    await withSigned(async (node, folder) => {
      const port = portOf(node);
      // As the guide says.
      const commands = /^dig .* CDS .* > anchors\ndelv .*$/m.exec(readFileSync("docs/guides/dns-production.md", "utf8"))?.[0] ?? "";
      const script = commands.replaceAll("17453", port).replace("web.svc.market.waymark", WEB);
      expect((await run("sh", ["-c", script], { cwd: folder })).output).toContain("; fully validated");
      const [, , , ...key] = (await dig(port, "waymark", "DNSKEY", "+short", "+nosplit")).trim().split(" ");
      const anchors = join(folder, "anchors");
      writeFileSync(anchors, `trust-anchors { "waymark." static-key 257 3 13 "${key.join("")}"; };\n`);
      const delv = (...words: readonly string[]) => printed("delv", "@127.0.0.1", "-p", port, "-a", anchors, "+root=waymark", ...words);
      expect(await delv(WEB, "A")).toContain("; fully validated");
      expect(await delv(`_svc._tcp.${WEB}`, "SRV")).toContain("; fully validated");
      expect(await delv("store.svc.shop.waymark", "A")).toContain("; fully validated");
      expect(await delv("waymark", "SOA")).toContain("; fully validated");
      expect(await delv(WEB, "AAAA")).toContain("; negative response, fully validated");
      expect(await delv("nope.svc.shop.waymark", "A")).toContain("; negative response, fully validated");
      // The zone above it has its DS.
      expect(await delv("inner.waymark", "SOA")).toContain("; fully validated");
      expect(await delv("nope.inner.waymark", "A")).toContain("; negative response, fully validated");
      writeFileSync(anchors, `trust-anchors { "waymark." static-key 257 3 13 "${Buffer.alloc(64, 7).toString("base64")}"; };\n`);
      expect(await delv(WEB, "A").catch((error: unknown) => String(error))).not.toContain("; fully validated");
    }, 'zones = ["waymark", "inner.waymark"]\n');
  });

  test("a validating Unbound marks answers as authentic, denies no name that exists, and refuses those of another key", async () => {
    await withSigned(async (node) => {
      const port = portOf(node);
      const ds = await anchorOf(port);
      await using unbound = await startValidator(port, ds);
      const ask = (...words: readonly string[]) => dig(`${unbound.port}`, "+noall", "+comments", "+answer", ...words);
      await until("it answers", async () => (await ask("waymark", "SOA")).includes("NOERROR"));
      expect(await ask("nope.svc.shop.waymark", "A")).toMatch(/NOERROR[^]*flags: qr rd ra ad;|NXDOMAIN[^]*flags: qr rd ra ad;/);
      expect(await ask(WEB, "AAAA")).toMatch(/NOERROR[^]*flags: qr rd ra ad;/);
      expect(await ask("shop.waymark", "A")).toMatch(/NOERROR[^]*flags: qr rd ra ad;/);
      expect(await ask("svc.shop.waymark", "A")).toMatch(/NOERROR[^]*flags: qr rd ra ad;/);
      // After denials on all sides, what exists is still found.
      expect(await ask(WEB, "A")).toMatch(/NOERROR[^]*flags: qr rd ra ad;[^]*10\.0\.0\.[12]\n/);
      expect(await ask(WEB, "HTTPS")).toMatch(/NOERROR[^]*flags: qr rd ra ad;[^]*HTTPS/);
      expect(await ask(`_svc._tcp.${WEB}`, "SRV")).toMatch(/flags: qr rd ra ad;[^]*8080 10-0-0-[12]\.addr\.node\.waymark\.\n/);
      expect(await ask("store.svc.shop.waymark", "A")).toMatch(/flags: qr rd ra ad;[^]*10\.0\.0\.[12]\n/);
      const [tag = "", , , digest = ""] = ds.split(" ");
      await using wrong = await startValidator(port, `${tag} 13 2 ${digest.replace(/^./, (char) => (char === "0" ? "1" : "0"))}`);
      await until("it refuses", async () => (await dig(`${wrong.port}`, WEB, "A")).includes("SERVFAIL"));
      expect(await dig(`${wrong.port}`, "+cd", "+noall", "+answer", WEB, "A")).toMatch(/10\.0\.0\.[12]\n/);
    });
  });

  test.each([0, 1])("with %i processes, a new key of the file is told after a reload, and the one behind it too", async (processes) => {
    await withSigned(async (node, _folder, keyFile) => {
      const port = portOf(node);
      const before = await anchorOf(port);
      const old = newPem();
      writeFileSync(keyFile, `${newPem()}${old}`);
      node.command.kill("SIGHUP");
      await until("the keys are other ones", async () => (await anchorOf(port)) !== before);
      expect((await dig(port, "waymark", "DNSKEY", "+short")).trim().split("\n")).toHaveLength(2);
    }, `processes = ${processes}\n`);
  });
});
