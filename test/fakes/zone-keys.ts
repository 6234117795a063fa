/** Keys of zones as files, and what a node says of its keys: its gateway to `dig`, and `ResolveName`. */
import { generateKeyPairSync } from "node:crypto";
import { dig } from "./dig.ts";
import type { NodeProcess } from "./node-process.ts";

/** A private key in PEM, as OpenSSL writes it. */
export function newZoneKey(): string {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "pem", type: "pkcs8" }).toString();
}

const KEY_TYPES = ["DNSKEY", "CDS", "CDNSKEY"] as const;

/** The data of the records that tell the keys, without spaces, as `dig` reads them from the gateway. */
export function toldByGateway(node: NodeProcess): Promise<readonly string[]> {
  return Promise.all(KEY_TYPES.map(async (type) => plain(await dig(node.listeners["dns"] ?? "", "+short", "waymark", type))));
}

/** The same as ResolveName tells it. */
export function toldByName(node: NodeProcess): Promise<readonly string[]> {
  return Promise.all(
    KEY_TYPES.map(async (type) => {
      const { stdout } = await node.run(["dns", "explain", "waymark", type]);
      return plain([...stdout.matchAll(new RegExp(` IN ${type} (.*)$`, "gm"))].map(([, data]) => data).join("\n"));
    }),
  );
}

function plain(text: string): string {
  return text.replaceAll(/\s/g, "").toLowerCase();
}
