/** `grpc-timeout`: how long the caller waits, as a header (gRPC over HTTP/2, "Timeout"). */
import { WaymarkError } from "../../lib/errors.ts";

/** Longest timeout that is taken as meant; a call with a longer one has no deadline. Ten years, as no timer reaches it. */
const MAX_TIMEOUT_MS = 10 * 365 * 86_400_000;

const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** Largest number that the header may have: eight digits. */
const MAX_VALUE = 99_999_999;

/**
 * The timeout in ms; undefined without one or beyond ten years. Throws `invalid_argument` on anything that the grammar (1 to 8
 * digits and a unit) does not allow, such as a negative one.
 */
export function parseTimeout(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = TIMEOUT.exec(text);
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  if (match === null || unitMs === undefined) {
    throw new WaymarkError("invalid_argument", `grpc-timeout: want 1 to 8 digits and one of H M S m u n, got "${text.slice(0, 32)}"`, {
      violations: [{ field: "grpc-timeout", description: "not a timeout of the gRPC grammar" }],
    });
  }
  const timeoutMs = Number(match[1]) * unitMs;
  return timeoutMs > MAX_TIMEOUT_MS ? undefined : timeoutMs;
}

/** The header for a timeout in ms, rounded up, so that the server never gives up first. A timeout that is over becomes 1 ns. */
export function formatTimeout(timeoutMs: number): string {
  if (timeoutMs <= 0) return "1n";
  for (const unit of ["n", "u", "m", "S", "M"]) {
    const value = Math.ceil(timeoutMs / (UNIT_MS[unit] ?? 1));
    if (value <= MAX_VALUE) return `${value}${unit}`;
  }
  return `${Math.min(MAX_VALUE, Math.ceil(timeoutMs / 3_600_000))}H`;
}

/** Refusal of a call whose deadline passed. */
export function expired(): WaymarkError {
  return new WaymarkError("deadline_exceeded", "the deadline passed before the answer was ready");
}
