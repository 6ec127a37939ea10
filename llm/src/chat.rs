use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::Error;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most templates.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// What the model is to be.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What a person says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// The model's own way of writing a conversation as text, a Jinja template.
///
/// Rendered as [transformers does](https://huggingface.co/docs/transformers/chat_templating), with
/// Python's string methods and `raise_exception`; what the template adds by itself, such as a
/// default system message, is part of how the model was trained and stays.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Parse a template.
    pub fn new(template: impl Into<String>) -> Result<Self, Error> {
        let source = template.into();
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source.clone())
            .map_err(|source| Error::ChatTemplate { source })?;

        Ok(Self {
            environment,
            source,
        })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Write a conversation as text; with `add_generation_prompt`, up to where the answer begins.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<String, Error> {
        let template = self.environment.get_template(NAME);
        template
            .and_then(|template| {
                template.render(context! { messages, add_generation_prompt, bos_token, eos_token })
            })
            .map_err(|source| Error::ChatTemplate { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2's, as its GGUF file has it.
    const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn render(template: &str, messages: &[Message], prompt: bool) -> Result<String, Error> {
        ChatTemplate::new(template)?.render(messages, prompt, "<s>", "</s>")
    }

    #[test]
    fn the_template_adds_its_own_system_message_where_none_is_given() {
        let text = render(SMOLLM2, &[Message::user("Hi")], true).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
             Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );

        let own = [
            Message::system("Be brief."),
            Message::user("Hi"),
            Message::assistant("Yes?"),
        ];
        let text = render(SMOLLM2, &own, false).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nYes?<|im_end|>\n"
        );
    }

    #[test]
    fn python_methods_and_special_tokens_are_there_and_blocks_leave_no_blank_lines() {
        let template = "{{ bos_token }}\n{% for message in messages %}\n  \
                        {% set said = message['content'].strip() %}\n\
                        [{{ message.role.upper() }}] {{ said }}{{ eos_token }}\n{% endfor %}\n";
        let text = render(template, &[Message::user("  Hi \n")], false).unwrap();
        assert_eq!(text, "<s>\n[USER] Hi</s>\n");
    }

    #[test]
    fn a_template_can_refuse_and_a_broken_one_is_an_error() {
        let refusing = "{{ raise_exception('roles must alternate') }}";
        let error = render(refusing, &[], false).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("roles must alternate"), "{source}");

        assert!(matches!(
            ChatTemplate::new("{% for message in %}"),
            Err(Error::ChatTemplate { .. })
        ));
    }
}
