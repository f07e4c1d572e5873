//! The grammar of the label selector's text form.

use super::ParseSelectorError;
use super::label::{Operator, Requirement};
use super::lexer::{Lexer, Token};
use std::collections::BTreeSet;

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, ParseSelectorError> {
    let mut lexer = Lexer::new(text);
    let mut requirements = Vec::new();
    if lexer.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(requirement(&mut lexer)?);
        match lexer.next() {
            Token::End => return Ok(requirements),
            Token::Comma if matches!(lexer.peek(), Token::Word(_) | Token::Not) => {}
            Token::Comma => return Err(unexpected(lexer.peek(), "identifier after ','")),
            other => return Err(unexpected(other, "',' or end of string")),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, ParseSelectorError> {
    let mut token = lexer.next();
    let absent = token == Token::Not;
    if absent {
        token = lexer.next();
    }
    let Token::Word(key) = token else {
        return Err(unexpected(token, "!, identifier, or end of string"));
    };
    if absent || matches!(lexer.peek(), Token::End | Token::Comma) {
        let operator = if absent {
            Operator::DoesNotExist
        } else {
            Operator::Exists
        };
        return Requirement::new(key, operator, BTreeSet::new());
    }
    let operator = match lexer.next() {
        Token::Word("in") => Operator::In,
        Token::Word("notin") => Operator::NotIn,
        Token::Equals => Operator::Equals,
        Token::NotEquals => Operator::NotEquals,
        Token::Greater => Operator::GreaterThan,
        Token::Less => Operator::LessThan,
        other => return Err(unexpected(other, "in, notin, =, ==, !=, >, <")),
    };
    let values = match operator {
        Operator::In | Operator::NotIn => set(lexer)?,
        _ => BTreeSet::from([exact(lexer)?]),
    };
    Requirement::new(key, operator, values)
}

/// One value; nothing before a comma or the end stands for the empty value.
fn exact(lexer: &mut Lexer<'_>) -> Result<String, ParseSelectorError> {
    if matches!(lexer.peek(), Token::End | Token::Comma) {
        return Ok(String::new());
    }
    match lexer.next() {
        Token::Word(value) => Ok(value.to_owned()),
        other => Err(unexpected(other, "identifier")),
    }
}

/// `(a, b)`; an omitted value between or beside commas stands for the empty value.
fn set(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, ParseSelectorError> {
    let open = lexer.next();
    if open != Token::Open {
        return Err(unexpected(open, "'('"));
    }
    let mut values = BTreeSet::new();
    if lexer.peek() == Token::Close {
        lexer.next();
        return Ok(values);
    }
    loop {
        let value = match lexer.peek() {
            Token::Word(value) => {
                lexer.next();
                value
            }
            Token::Comma | Token::Close => "",
            other => return Err(unexpected(other, "',', ')' or identifier")),
        };
        values.insert(value.to_owned());
        match lexer.next() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
}

fn unexpected(found: Token<'_>, expected: &'static str) -> ParseSelectorError {
    ParseSelectorError::Unexpected {
        found: found.text().to_owned(),
        expected,
    }
}
