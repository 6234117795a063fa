/** Loads the secrets for DNS cookies from a file, or creates a random secret. */
import { randomBytes } from "node:crypto";
import type { Log } from "../../lib/log.io.ts";
import { MAX_TOKEN_FILE_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import { COOKIE_SECRET_BYTES, parseCookieSecrets, ServerCookies } from "../wire/cookies.ts";

export interface DnsCookies {
  readonly cookies: ServerCookies;
  /** Reloads the file. If that fails, the current secrets remain in use. */
  reload(): void;
}

/**
 * `path` comes from `dns.cookie_secret_file`. `own` is the secret that the threads of this process share. Defaults to a random secret. Throws an
 * error with a message for the operator when the file is invalid.
 */
export function openDnsCookies(path: string | undefined, log: Log, own: Uint8Array | undefined): DnsCookies {
  if (path === undefined) return { cookies: new ServerCookies([own ?? newCookieSecret()]), reload: () => {} };
  const cookies = new ServerCookies(readCookieSecrets(path));
  return {
    cookies,
    reload: () => {
      try {
        cookies.replace(readCookieSecrets(path));
        log.info({}, "cookie secrets reloaded");
      } catch (error) {
        log.warn({ err: error }, "cookie secret reload failed, keeping the current secrets");
      }
    },
  };
}

export function newCookieSecret(): Uint8Array {
  return new Uint8Array(randomBytes(COOKIE_SECRET_BYTES));
}

/** Throws an error with a message for the operator when the file is invalid. */
export function readCookieSecrets(path: string): readonly Uint8Array[] {
  const setting = "dns.cookie_secret_file";
  const secrets = parseCookieSecrets(readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("latin1"));
  if (secrets === undefined) throw new Error(`${setting}: invalid file ${path}: expected one or two lines of 32 hexadecimal digits`);
  return secrets;
}
