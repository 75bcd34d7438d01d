// Text from guests, files and people, made safe to show. `parts.js` passes every text of every element through
// here, so no page can forget it. The host has the same list of characters in `escape.rs`.

// Control characters; embeddings, overrides and isolates of bidirectional text; line separators; invisible ones.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff]|[\u{e0000}-\u{e007f}]/gu;

// Scripts that run from right to left.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\u200f\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]|[\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

const hex = (one) => one.codePointAt(0).toString(16);

/** A text with everything hidden spelled out. */
export const spelled = (text) => text.replace(HIDDEN, (one) => (one === '\r' ? '\\r' : one < '\u0100' ? `\\x${hex(one).padStart(2, '0')}` : `\\u{${hex(one)}}`));

export const hides = (text) => text.search(HIDDEN) >= 0;

/** The same where only a text can stand: one that runs from right to left moves nothing beside it. */
export function isolated(text) {
  const plain = spelled(text);
  return RIGHT_TO_LEFT.test(plain) ? `\u2068${plain}\u2069` : plain;
}

// What shows no elements inside.
const ONLY_TEXT = new Set(['option', 'text', 'textarea', 'title', 'tspan']);
const TEXTS = ['alt', 'aria-label', 'aria-valuetext', 'label', 'placeholder', 'title'];

/** `h`, with every text made safe. */
export const safely = (h) => {
  const child = (type) => (one) => {
    if (Array.isArray(one)) return one.map(child(type));
    if (typeof one !== 'string') return one;
    if (ONLY_TEXT.has(type)) return isolated(one);
    const plain = spelled(one);
    return RIGHT_TO_LEFT.test(plain) ? h('bdi', null, plain) : plain;
  };
  return (type, props, ...children) => {
    // The children of a component stand in an element of its own in the end.
    if (typeof type !== 'string') return h(type, props, ...children);
    const texts = props && TEXTS.filter((name) => typeof props[name] === 'string');
    const safe = texts?.length ? { ...props, ...Object.fromEntries(texts.map((name) => [name, isolated(props[name])])) } : props;
    return h(type, safe, ...children.map(child(type)));
  };
};
