/** Reads the files for the borders: CA certificates and tokens of clusters in other regions. */
import type { BorderSettings } from "../../config/borders.ts";
import type { Settings } from "../../config/settings.ts";
import type { Border, BorderTrust } from "../../fabric/borders/border.ts";
import type { ClusterTokens } from "../../fabric/links/peer-auth.ts";
import type { BorderAuthority } from "../../fabric/transport/border-gate.ts";
import { type FabricTls, trustDomainOf } from "../../fabric/transport/peer-identity.io.ts";
import { readCertificates } from "../../lib/named-file.io.ts";
import { type NamedNode, readFabricTls, readTokens } from "./secrets.io.ts";

/**
 * Reads the borders in the settings. On failure, throws a message for the operator with one line per invalid border. A border and the fabric must not
 * use the same token.
 */
export function readBorders(borders: readonly BorderSettings[], { clusterToken, otherToken }: ClusterTokens): readonly Border[] {
  const taken = new Map([clusterToken, otherToken].map((token) => [token, "the fabric"]));
  return eachRead(borders, (row, i) => {
    const { clusterId, region, addresses, import: imports, export: exports, batchIntervalMs, bytesPerSecond } = row;
    const trust = trustOf(row, `fabric.borders[${i}]`, taken);
    return { clusterId, region, addresses, trust, imports, exports, batchIntervalMs, bytesPerSecond };
  });
}

/** Reads every row, and throws a single error with the faults of all rows. */
function eachRead<T>(borders: readonly BorderSettings[], read: (row: BorderSettings, index: number) => T): readonly T[] {
  const faults: string[] = [];
  const each = borders.map((row, i) => {
    try {
      return [read(row, i)];
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
      return [];
    }
  });
  if (faults.length > 0) throw new Error(faults.join("\n"));
  return each.flat();
}

/** A token identifies the cluster that presents it, so no two clusters may have the same token. */
function trustOf({ trust: { tokenFile } }: BorderSettings, setting: string, taken: Map<string | undefined, string>): BorderTrust {
  if (tokenFile === undefined) return { kind: "authority" };
  const [token, otherToken] = readTokens(`${setting}.trust.token_file`, tokenFile);
  const other = taken.get(token) ?? (otherToken === undefined ? undefined : taken.get(otherToken));
  if (other !== undefined)
    throw new Error(`${setting}.trust.token_file: ${tokenFile} has the same token as ${other}: use a separate token for each`);
  for (const each of [token, otherToken]) if (each !== undefined) taken.set(each, setting);
  return { kind: "token", token, otherToken };
}

/** Reads the certificates for the fabric and the CA certificates for its borders. Undefined for plaintext connections. */
export function readTlsAndBorders(settings: Settings, borders: readonly BorderSettings[], self: NamedNode): FabricTls | undefined {
  const tls = readFabricTls(settings, self);
  return tls === undefined ? undefined : { ...tls, borders: readAuthorities(borders, tls.cert) };
}

function readAuthorities(borders: readonly BorderSettings[], cert: Uint8Array): readonly BorderAuthority[] {
  return eachRead(borders, ({ clusterId, trust: { caFile, trustDomain = trustDomainOf(cert) } }, i) =>
    caFile === undefined ? [] : [{ clusterId, ca: readCertificates(`fabric.borders[${i}].trust.ca_file`, caFile), trustDomain }],
  ).flat();
}
