/** Counts the text that is decoded from stored entries, which is most of the cost of reading a large one. */
import { vi } from "vitest";
import { WireReader } from "../../src/lib/protowire.ts";

/** Number of characters that are decoded while `run` runs. */
export function decodedChars(run: () => unknown): number {
  const text = vi.spyOn(WireReader.prototype, "text");
  try {
    run();
    return text.mock.results.reduce((sum, { value }) => sum + (typeof value === "string" ? value.length : 0), 0);
  } finally {
    text.mockRestore();
  }
}

/** Tags, capabilities and metadata of 15 kB in all. */
export function largeFields(): { readonly tags: string[]; readonly capabilities: string[]; readonly metadata: Record<string, string> } {
  const words = (count: number) => Array.from({ length: count }, (_, i) => `${i}-`.padEnd(100, "x"));
  return { tags: words(50), capabilities: words(50), metadata: Object.fromEntries(words(25).map((word, i) => [`key-${i}`, word + word])) };
}
