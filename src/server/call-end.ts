/** Ends that the chain gives to calls: what it refuses them with, and ends a stream with. */
import { WaymarkError } from "../lib/errors.ts";

/** How long a client of a draining server should wait before it tries (another node). */
const DRAIN_RETRY_MS = 1_000;

/** The end of a stream whose caller would not be let in any more. */
export function outlived(): WaymarkError {
  return new WaymarkError("unauthenticated", "the credential that this stream was opened with has expired; open it again with a new one");
}

/** The end of a stream whose credential counts no more, or stands for somebody else. */
export function withdrawn(): WaymarkError {
  return new WaymarkError(
    "unauthenticated",
    "the credential that this stream was opened with was withdrawn or changed; open it again with one that counts",
  );
}

/** Refusal of a call to a server that is going away. */
export function draining(): WaymarkError {
  return new WaymarkError("draining", "this node is draining; use another", { retryMs: DRAIN_RETRY_MS });
}

/** Refusal of a method that this server does not have: it comes with a later version, or the server is a resolver. */
export function unimplemented(path: string): WaymarkError {
  return new WaymarkError("unimplemented", `this server does not offer ${path}`);
}

/** A caller without a credential, where the settings want one; it is told which one. */
export function anonymousRefused(access: "none" | "read", verb: "call" | "write"): WaymarkError {
  return new WaymarkError("unauthenticated", `callers without a credential may not ${verb} here: tenants.anonymous is "${access}"`);
}

/** A caller without a credential, of a service that is for others alone. */
export function credentialWanted(service: string): WaymarkError {
  return new WaymarkError("unauthenticated", `${service} needs a credential here`);
}
