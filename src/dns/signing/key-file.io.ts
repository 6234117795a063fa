/** Loads the DNSSEC zone keys from the file in `dns.dnssec_key_file`. */
import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import type { Log } from "../../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import { PUBLIC_KEY_BYTES, zoneKey } from "../records/dnssec.ts";
import type { ZoneKey } from "../records/record.ts";
import type { ZoneSigningKeys } from "./zone-signer.ts";

export interface KeyFile {
  readonly keys: ZoneSigningKeys;
  /** Reloads the file. If that fails, the current keys remain in use. */
  reload(): void;
}

/** Private keys in PEM format, as written by OpenSSL. */
const PEM = /-----BEGIN (?<kind>EC )?PRIVATE KEY-----[^-]+-----END \k<kind>?PRIVATE KEY-----/g;
const CURVE = "prime256v1";

/** Throws an error with a message for the operator when the file is invalid. */
export function openKeyFile(path: string, log: Log): KeyFile {
  const keys = new FileKeys(readZoneKeys(path));
  return {
    keys,
    reload: () => {
      try {
        if (keys.replace(readZoneKeys(path))) log.info({ key_tags: keys.keys.map(({ keyTag }) => keyTag) }, "zone keys reloaded");
      } catch (error) {
        log.warn({ err: error }, "zone key reload failed, keeping the current keys");
      }
    },
  };
}

interface SecretKey extends ZoneKey {
  readonly secret: KeyObject;
}

class FileKeys implements ZoneSigningKeys {
  keys: readonly SecretKey[];
  version = 0;

  constructor(keys: readonly SecretKey[]) {
    this.keys = keys;
  }

  /** Replaces the keys. Returns whether the new keys differ from the current keys. */
  replace(keys: readonly SecretKey[]): boolean {
    const textOf = (all: readonly ZoneKey[]) => all.map(({ publicKey }) => Buffer.from(publicKey).toString("hex")).join();
    if (textOf(keys) === textOf(this.keys)) return false;
    this.keys = keys;
    this.version += 1;
    return true;
  }

  sign(index: number, data: Uint8Array): Uint8Array {
    const key = this.keys[index];
    if (key === undefined) throw new RangeError(`no zone key with index ${index}`);
    return sign("sha256", data, { key: key.secret, dsaEncoding: "ieee-p1363" });
  }
}

/** Throws an error with a message for the operator when the file is invalid. */
export function readZoneKeys(path: string): readonly SecretKey[] {
  const setting = "dns.dnssec_key_file";
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1");
  const keys = [...text.matchAll(PEM)].map(([pem]) => secretKey(pem));
  const good = keys.filter((key) => key !== undefined);
  const isDistinct = new Set(good.map(({ keyTag }) => keyTag)).size === good.length;
  if (good.length < keys.length || good.length === 0 || good.length > 2 || !isDistinct)
    throw new Error(`${setting}: invalid file ${path}: expected one or two different P-256 private keys in PEM format, without a password`);
  return good;
}

function secretKey(pem: string): SecretKey | undefined {
  try {
    const secret = createPrivateKey(pem);
    const { x, y } = secret.export({ format: "jwk" });
    if (secret.asymmetricKeyDetails?.namedCurve !== CURVE || x === undefined || y === undefined) return undefined;
    const publicKey = Buffer.concat([Buffer.from(x, "base64url"), Buffer.from(y, "base64url")]);
    return publicKey.length === PUBLIC_KEY_BYTES ? { ...zoneKey(publicKey), secret } : undefined;
  } catch {
    return undefined;
  }
}
