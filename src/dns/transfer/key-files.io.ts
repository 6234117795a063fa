/** Loads the TSIG keys of secondary servers, whose secrets are in files. */
import type { HmacAlgorithm } from "../../lib/crypto.ts";
import type { Log } from "../../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import type { ViewSettings } from "../views/views.ts";
import { viewOfKey } from "../views/views.ts";
import type { TsigKey } from "../wire/tsig.ts";

/** The `dns` settings that define keys. */
export interface TransferKeySettings extends Pick<ViewSettings, "views"> {
  readonly transferKeys: readonly {
    readonly name: string | undefined;
    readonly algorithm: HmacAlgorithm;
    readonly secretFile: string | undefined;
  }[];
}

export interface KeyFiles {
  readonly findKey: (name: string) => TsigKey | undefined;
  /** Reloads the files. If a file cannot be read, the current keys remain in use. */
  reload(): void;
}

/** Minimum length of a secret. Shorter secrets are too easy to guess. */
const MIN_SECRET_BYTES = 16;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** Throws an error with a message for the operator when a file is invalid. */
export function openKeyFiles(settings: TransferKeySettings, log: Log): KeyFiles {
  let keys = readTransferKeys(settings);
  return {
    findKey: (name) => keys.get(name),
    reload: () => {
      if (settings.transferKeys.length === 0) return;
      try {
        keys = readTransferKeys(settings);
        log.info({}, "transfer keys reloaded");
      } catch (error) {
        log.warn({ err: error }, "transfer key reload failed, keeping the current keys");
      }
    },
  };
}

/** Throws an error with a message for the operator when a file is invalid. */
export function readTransferKeys({ views, transferKeys }: TransferKeySettings): ReadonlyMap<string, TsigKey> {
  return new Map(
    transferKeys.map(({ name: text = "", algorithm, secretFile = "" }, place) => {
      const name = text.toLowerCase().replace(/\.$/, "");
      const secret = readSecret(`dns.transfer_keys[${place}].secret_file`, secretFile);
      return [name, { name, algorithm, secret, viewIndex: viewOfKey({ views }, place) }];
    }),
  );
}

/** Reads one line of base64, as written by `tsig-keygen` and `keymgr`. */
function readSecret(setting: string, path: string): Uint8Array {
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1").trim();
  const secret = Buffer.from(text, "base64");
  if (!BASE64.test(text) || secret.length < MIN_SECRET_BYTES)
    throw new Error(`${setting}: invalid file ${path}: expected one line of base64 for at least ${MIN_SECRET_BYTES} bytes`);
  return secret;
}
