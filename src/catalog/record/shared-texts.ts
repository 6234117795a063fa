/** Shares texts that records have in common, in a table of fixed size. Sharing only saves memory, so of two texts with one place the newer stays. */
import { placeOf } from "../../lib/hash64.ts";

export class SharedTexts {
  readonly #texts: (string | undefined)[];

  /** `places`: a power of two. */
  constructor(places: number) {
    this.#texts = new Array<string | undefined>(places).fill(undefined);
  }

  /** The copy of the text that was given last, or else this one. */
  text(text: string): string {
    const { place } = placeOf(text, this.#texts.length);
    const known = this.#texts[place];
    if (known === text) return known;
    this.#texts[place] = text;
    return text;
  }
}
