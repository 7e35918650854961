"""Word lists and patterns by which a sentence goes on with a restatement, or is seen to bring in something new.

`judge.py` uses them once the query is restated: "One limit: no oven." goes on, "I'll take a pan" does not. Every
pattern is matched against a case-folded sentence without its opening fillers. To add a language, add its words.
"""

from __future__ import annotations

import re

# What a request consists of. "One limit: no oven.", "The tone is formal.": a sentence with one of them as its subject
# goes on with a restatement.
_FACETS = (
    r"limit(?:ation)?|condition|constraint|restriction|requirement|rule|catch|twist|difficulty|problem|complication|"
    r"caveat|detail|context|background|setting|situation|budget|deadline|tone|style|format|form|length|"
    r"audience|reader|topic|subject|theme|goal|aim|target|task|ask|need|wish|role|persona|place|location|time|date|"
    r"language|input|output|given|known|unknown|wanted|sought|find|to find|data|facts?|numbers?|price|amount|total|"
    r"question|query|request|instruction|message|text|example|review|sentence|word count|number|size|stipulation|"
    r"purpose|intent(?:ion)?|reason|motive|proviso|preference|(?:key |main )?points?|specifics|elements?|parameters?|"
    r"details|extra|bonus|one more thing|"
    r"note|also|plus|only|"
    r"bedingung|einschränkung|vorgabe|anforderung|auflage|regel|thema|aufgabe|frage|gegeben|gesucht|ziel|budget|"
    r"contrainte|condition|règle|sujet|tâche|demande|donnée|cherché|limite|restricción|condición|regla|tema|tarea|"
    r"pregunta|pedido|límite|condição|restrição|regra|tarefa|vincolo|condizione|regola|compito|richiesta|voorwaarde|"
    r"beperking|eis|vraag|условие|ограничение|задача|вопрос|требование|дано|найти|бюджет|koşul|şart|kısıt|görev|"
    r"warunek|ograniczenie|zadanie|الشرط|شرط|المطلوب|शर्त"
)
FACET_LABEL = re.compile(
    r"(?:[^\W\d_][\w'’]* ){0,3}?(?:" + _FACETS + r")(?:e?s|en|n|er|i|y)?(?: [^\W\d_]+){0,2}\s*[:=–—-]\s*"
    r"|(?:条件|限制|要求|约束|題目|题目|主题|任务|需求|已知|求|問|制約|お題|テーマ|조건|제한|요구 사항|"
    r"주제)\S{0,2}\s*[:：]\s*"
    r"|(?:条件|限制|时间|预算|地点|人数|主题|长度|字数|風格|长短|年龄|長さ|文字数|目的|相手|风格|语言|对象|予算|人数|"
    r"時間|場所|季節|期間|対象|장소|시간|"
    r"예산|인원|기간)(?:是|为|は|은|는|,)?\s*"
)
FACET = re.compile(
    r"^(?:(?:the|their|his|her|its|one|another|an?|der|die|das|la|le|el|il) )?(?:\w+ )?(?:" + _FACETS + r")s? "
    r"(?:is|are|was|were|has|have|must|should|ist|sind|est|sont|es|son|è) "
)
# "It has to rhyme.", "It returns the sum.": what the wanted thing is to be like.
SPECIFIES = re.compile(
    r"^(?:it|they|there|each|every|all|both|the \w+ (?:should|must|has to|have to|needs? to|takes|returns)|"
    r"only|just|exactly|at (?:most|least)|max(?:imum)?|up to|no more than|within|without|with|but|and) "
)
# "Both of them are ...", "There are two of them": about what the sentence before has named.
ANAPHOR = re.compile(
    r"^(?:both|each) |\b(?:of (?:them|these|those|which|whom)|davon|d'entre (?:eux|elles)|de (?:ellos|ellas)|"
    r"из них)\b"
)
# "... too.", "as well": adds to what was restated.
ADDS_ON = re.compile(
    r"(?:\btoo|as well|along|it seems|apparently|besides|on top(?: of (?:it|that))?|auch|aussi|también|anche|também|"
    r"тоже|也是?)\W*\Z"
)
# Verbal endings by which a language reports what somebody said.
REPORTED = re.compile(
    r"(?:とのこと|という(?:こと|依頼|相談|質問|要望|話|状況|条件|内容)?|と(?:言って|述べて|書いて)\S{0,4}|そうだ|"
    r"そうです)(?:だ|です|である)?\W*\Z"
    r"|(?:다고|라고|달라고|냐고) ?(?:한다|합니다|했다|해요|말한다|하는 (?:요청|상황|질문))\S*\W*\Z|(?:요청|상황|"
    r"질문)(?:이다|입니다)\W*\Z"
)
# What the writer is going to do, or could: a plan, however many words of the query it repeats.
PLANS = re.compile(
    r"\b(?:i['’]ll|i['’]d|we['’]ll|we['’]d|let['’]?s|let me|(?:i|we) (?:will|can|could|would|should|may|might|must not|"
    r"think|guess|suppose|remember|recall|know|believe|don['’]?t|suggest|propose|recommend|choose|prefer|am going|"
    r"start|"
    r"begin|use|call|take)|ich (?:werde|würde|kann|könnte|sollte|nehme|denke)|je (?:peux|vais|pourrais|pense|propose|"
    r"ne)|"
    r"(?:puedo|podría|voy a|creo|propongo)|posso|potrei|penso|можно|можем|могу|начну)(?!\w)|我(?:先|会|可以|觉得|应该"
    r"|来)|可以|できる|ましょう|수 있"
)
# A question about the request, with which a writer opens: "What is being asked here?" Its answer is the restatement.
WONDERS = re.compile(
    r"(?:user|they|he|she|person|someone)\b.*\b(?:want|ask|need|mean|say|after|looking)|\b(?:ask(?:ed|ing)?|wanted|"
    r"request|question|"
    r"query|task|prompt|problem|about|going on|matter|do we have|have we got|have here|at hand)\b|worum|gefragt|"
    r"gesucht|"
    r"frage|will (?:der|die)|demand|veut|question|s'agit|pregunt|pide|quiere|trata|chied|vuole|domanda|pergunt|quer|"
    r"спрашива|хочет|вопрос|просит|нужно|fråg|vraag|soru|istiyor|要求|想|问|題|题|什么|求め|聞|質問|何|원하|묻|질문|"
    r"뭘|무엇|المطلوب|يريد|चाहत|पूछ"
)
# "A poem is wanted.", "Cake requested.": asks at its end.
ASKED_END = re.compile(
    r"\b(?:needed|wanted|requested|asked for|required|desired|sought|called for|(?:is|are) to be \w+|needs? to be \w+"
    r"|ha(?:s|ve) to be \w+"
    r"|gesucht|gewünscht|"
    r"gefragt|verlangt|gebraucht|demandée?s?|souhaitée?s?|recherchée?s?|demandó|pedid[oa]s?|solicitad[oa]s?|"
    r"richiest[oaei]|требуется|"
    r"запрашивается|gevraagd|isteniyor|istenen)\W*\Z|(?:を求められている|してほしい(?:とのこと)?|が必要|을 원한다|"
    r"를 원한다|が欲しい|求められた)\W*\Z"
)
# "No oven.", "Without eggs.": goes on where the query denies it, too.
DENIAL_FIRST = re.compile(
    r"(?:no|not|none|without|kein\w*|ohne|sans|pas|sin|ningun\w*|sem|senza|без|niet|geen|zonder|不|没|没有|无) ?"
)
# Subjects that may stand for what the query names; a stance begins with them as well.
ITS = re.compile(r"(?:it['’]s|it is|it was|there['’]s|there are|there is|there were) ")
# "It's for a friend.", "It's to be a surprise.": what the wanted thing is for.
IS_FOR = re.compile(
    r"(?:it|this|they|he|she)(?:['’](?:s|re)| is| are) (?:all |only |just )?(?:to|for|meant|intended|supposed|"
    r"going to) "
)
# "Liquids aren't allowed.", "The weight is limited to 8 kg."
CONSTRAINS = re.compile(
    r"\b(?:is|are|isn['’]t|aren['’]t|must|should|can|may)(?: not| also| only)?(?: be)? (?:limited|capped|restricted|"
    r"fixed|allowed|permitted|"
    r"forbidden|banned|excluded|avoided|required|mandatory|ruled out|off limits|at most|at least|under|below|over|"
    r"between)\b"
)
OF_USER = re.compile(r"\b(?:user|asker|person)['’]s\b")
# What something is to do: reports the asker's intention.
MEANT_TO = re.compile(
    r"(?:the|my|this|his|her|their|it|that)\b[^.,;:]{0,40} (?:is|are|was) (?:supposed|meant|intended|expected) to\b"
)
# A proposal, unless every word is the query's.
PROPOSES = re.compile(r"\b(?:would|could|might|may) (?:be|work|make|fit|suit|do|help|mean|give|need)\b")
# A definite subject: "The answer is ..." names what is found.
DEFINITE = re.compile(r"(?:(?:the|der|die|das|le|la|les|el|los|las|il|lo|het) |l['’])")
# What a wanted function, text or thing is to do.
RETURNS = re.compile(
    r"(?:it|they) (?:returns?|takes?|gives?|prints?|gets?|accepts?|outputs?|reads?|should|must|has to|have to|"
    r"needs? to) "
)
# The query's story, told on.
NARRATES = re.compile(
    r"^(?:it|that|the \w+) (?:was|were|had|\w{2,}ed|came|went|began|broke|fell|got|took|gave|left|lost|found|happens|"
    r"comes) "
)
# Counts or gives examples: what follows is judged.
ORDINAL = re.compile(
    r"(?:for example|for instance|e\.g\.|i\.e\.|that is|zum beispiel|par exemple|por ejemplo|first(?:ly)?|"
    r"second(?:ly)?|third(?:ly)?|(?:and )?last(?:ly)?|finally|one|two|three)[,:] +"
)
# Reasons about what was restated.
INFERS = re.compile(
    r"(?:if|so|thus|hence|therefore|since|because|suppose|assum\w+|then|wenn|also|si|donc|entonces|если|значит|如果|"
    r"所以|因此|もし|だから)\b"
)
# "The time is asked."
SAYS_ASKED = re.compile(
    r"(?:is|are|was|were) (?:being )?(?:asked|wanted|sought|requested|needed|required|unknown|missing|"
    r"to be \w+)(?: for)?\W*\Z"
)
# Denials of a query that are none of a sentence.
WITHOUT = re.compile(
    r"\b(?:without|free|except|avoid\w*|ban(?:s|ned)?|ohne|sans|sin|senza|sem|без|bez|zonder|utan|uden)\b|olmadan|"
    r"なし|抜き|无|没|بدون|बिना|없이"
)
# Draws a conclusion.
CONCLUDES = re.compile(
    r"\b(?:hence|therefore|thus|daher|folglich|donc|por tanto|quindi|portanto|следовательно)\b|所以|因此"
)
# A claim: what follows is said of the subject. "Grapes are toxic ..." claims, "Two of the plants are ferns" may repeat.
CLAIMS = re.compile(
    r"\b(?:is|are|was|were|isn['’]t|aren['’]t|ist|sind|est|sont|es|son|è|sono|é|são) ((?:\w+[ '’-]?){1,4})"
)
# How the answer to such a question begins.
INDIRECT = re.compile(
    r"(?:whether|if|how|why|what|where|when|which|who|to|that|for|ob|darum|wie|si|se|como|cómo|о том|как)\b|是否|如何"
    r"|怎么"
)

# Numbers in words, so that "three of them" and "3 hens" share a word. "One" is left out: it is a pronoun, too.
_NUMBER_NAMES = (
    (
        "2",
        "two pair couple twice double zwei beide beiden deux dos ambos ambas due dois duas два две двух оба обе iki "
        "twee två",
    ),
    ("3", "three triple thrice drei trois tres tre três три трёх трех üç drie"),
    ("4", "four vier quatre cuatro quattro quatro четыре четырёх dört fyra"),
    ("5", "five fünf cinq cinco cinque пять пяти beş vijf fem"),
    ("6", "six sechs seis sei шесть шести altı zes sex"),
    ("7", "seven sieben sept siete sette sete семь семи yedi zeven sju"),
    ("8", "eight acht huit ocho otto oito восемь восьми sekiz åtta"),
    ("9", "nine neun neuf nueve nove девять dokuz negen nio"),
    ("10", "ten zehn dix diez dieci dez десять десяти tien tio"),
    ("11", "eleven elf onze once undici"),
    ("12", "twelve dozen zwölf douze doce dodici doze двенадцать"),
    ("15", "fifteen fünfzehn quinze quince quindici"),
    ("20", "twenty zwanzig vingt veinte venti vinte двадцать"),
    ("30", "thirty dreißig trente treinta trenta trinta тридцать"),
    ("40", "forty vierzig quarante cuarenta quaranta quarenta"),
    ("50", "fifty fünfzig cinquante cincuenta cinquanta cinquenta"),
    ("60", "sixty sechzig soixante sesenta sessanta sessenta"),
    ("100", "hundred hundert cent cien ciento cento сто"),
    ("1000", "thousand tausend mille mil тысяча"),
)
NUMBER_WORDS = {word: digits for digits, words in _NUMBER_NAMES for word in words.split()}
