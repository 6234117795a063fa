/** Operations on the control store, and their records in the audit log. */
import { WaymarkError } from "../lib/errors.ts";

/**
 * Runs an operation, and records it if it was not refused. An operation whose answer is lost can have had its effect, so it is recorded too.
 * `outcome` is the end of the detail of the record.
 */
export async function runRecorded<T>(run: () => Promise<T>, record: (outcome: string) => void): Promise<T> {
  const result = await run().catch((error: unknown) => {
    if (isUnavailable(error)) record("; the outcome is unknown");
    throw error;
  });
  record("");
  return result;
}

export function isUnavailable(error: unknown): boolean {
  return error instanceof WaymarkError && error.reason === "store_unavailable";
}
